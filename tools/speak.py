"""Speaks an English sentence into a WAV file, with the voice of the package hibari-tts."""

import sys

import soundfile
from hibari import Hibari

sentence, path = sys.argv[1:]
soundfile.write(path, Hibari()(sentence), 24_000)
