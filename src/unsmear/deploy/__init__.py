"""For those who run networks elsewhere, or faster: eight bits, export, measured speed."""
