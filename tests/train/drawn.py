"""Stand-ins for packed batches, in a file of their own: each process that draws imports it."""

from __future__ import annotations

import os
import time

import torch

from unsmear.data.clips import Clips
from unsmear.data.trails import Trails
from unsmear.errors import InputError


class TellsNobodyError(Exception):
    """Cannot be unpickled: its constructor takes two arguments, but its base class stores one."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Numbers:
    """Stands in for packed batches: each holds its step and the process that drew it."""

    def unpacked(self, device):
        return self

    def draw(self, step, shards=None):
        value = torch.tensor([step, os.getpid(), *(shards or ())])
        return Clips(value, -value, Trails(value, value))


class Failing(Numbers):
    """From step 9 on, each step fails in another way; the tenth only if its process is killed."""

    def draw(self, step, shards=None):
        if step == 9:
            raise InputError("damaged")
        if step == 10:
            time.sleep(600)
        if step == 11:
            raise TellsNobodyError("a", "b")
        return super().draw(step, shards)
