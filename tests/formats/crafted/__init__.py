"""Files made to harm whoever loads them, harmless by construction.

Every path they name is a bait (`Bait`) or does not exist, every module they name is a bait, code in
them is no code, and bombs declare what they would do without holding it.
"""
