"""Language codes in MOV files, which are those of the classic Mac OS. FFmpeg's muxer knows one
spelling of each, and drops languages that are spelled differently.
"""

from __future__ import annotations

# ISO 639-2 codes that FFmpeg spells differently: the bibliographic code, or one of its own.
_SPELLED = {
    "fre": "fra", "deu": "ger", "nld": "dut", "swe": "sve", "nob": "nor", "nno": "nor",
    "ell": "gre", "isl": "ice", "hrv": "hr ", "zho": "chi", "cmn": "chi", "fao": "fo ",
    "fas": "per", "gle": "iri", "sqi": "alb", "rum": "ron", "cze": "ces", "slo": "slk",
    "srp": "sr ", "mkd": "mac", "hye": "arm", "kat": "geo", "bod": "tib", "pan": "pa ",
    "mya": "bur", "fil": "tgl", "msa": "may", "cym": "wel", "eus": "baq",
}  # fmt: skip
_SPELLINGS = (
    "eng fra ger ita dut sve spa dan por nor heb jpn ara fin gre ice mlt tur chi urd hin tha kor "
    "lit pol hun est lav per rus iri alb ron ces slk slv yid mac bul ukr bel uzb kaz aze arm geo "
    "mol kir tgk tuk mon pus kur kas snd tib nep san mar ben asm guj ori mal kan tam tel sin bur "
    "khm lao vie ind tgl may amh tir orm som swa kin run nya mlg epo wel baq cat lat que grn aym "
    "tat uig dzo jav"
)
_KNOWN = frozenset((*_SPELLINGS.split(), *_SPELLED.values()))


def macintosh_language(language: str) -> str | None:
    """FFmpeg's spelling of a language (ISO 639-2) for MOV files; None if they have no code."""
    spelled = _SPELLED.get(language, language)
    return spelled if spelled in _KNOWN else None
