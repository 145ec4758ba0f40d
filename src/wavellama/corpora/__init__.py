"""Speech corpora from ordinary packages: download, convert, clean, split and check.

The steps of a corpus, each a module::

    packages  the exact list of Debian packages, downloaded without installing them
    deb       a package -> files, in pure Python
    sources   the files of each package -> clips with a transcript, a speaker and a sentence
    convert   a clip -> 16 kHz mono FLAC
    transcript, length_model, clean     which clips are good, and what is said in them
    split     train, dev, test and the speakers never heard in training
    publish   audio, manifest, licences, statistics and checksums
    debian_speech, mini                 the two corpora
    check, plot, tokenizer              for any data set with a manifest
"""
