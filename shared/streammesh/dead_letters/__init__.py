"""Dead letters: work that was given up, with its reason; found, replayed, dropped."""

from streammesh.dead_letters.letters import DeadLetter, DeadLetterFilter
from streammesh.dead_letters.replay import Replayed, Replaying
from streammesh.dead_letters.store import DeadLetters, LetterPage

__all__ = ["DeadLetter", "DeadLetterFilter", "DeadLetters", "LetterPage", "Replayed", "Replaying"]
