"""Speech corpora from ordinary packages: download, convert, clean, split and check.

The steps of a corpus, each a module::

    packages  the exact list of packages, downloaded without installing them
    deb       a package -> files, in pure Python
    sources   the files of each package -> clips with a transcript, a speaker and a sentence
    convert   a clip -> 16 kHz mono FLAC
    transcript, length_model, clean     which clips are good, and what is said in them
    split     train, dev, test and the speakers never heard in training
    publish   audio, manifest, licences, statistics and checksums
    corpus    all of these steps, one after the other
    debian_speech, amazon_queen, mini   corpora of recordings
    texts, engines, neural_engines, spoken_texts    a corpus of synthetic speech
    merge     one manifest of several data sets
    command   the commands ``data fetch`` and ``data merge``
"""
