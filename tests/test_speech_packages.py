# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/speech_packages.py: who speaks in which file of a package, and for what use."""

import re

import pytest
from conftest import CLASSIC
from packaged_speech import packages, source_of


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_samples_are_classic(name):
    label = packages.classify(source_of("codec2-examples"), f"usr/share/codec2/raw/{name}.raw")
    assert label.use == "classic"
    assert label.speaker == f"codec2-{name}"


@pytest.mark.parametrize(
    ("path", "use"),
    [
        ("usr/share/codec2/raw/hts1.raw", "parity"),
        ("usr/share/codec2/raw/ve9qrp.raw", "parity"),
        ("usr/share/codec2/raw/speech_orig_16k.wav", "parity"),
        ("usr/share/codec2/wav/all.wav", "parity"),
        ("usr/share/codec2/raw/sine1k_2Hz_spread.raw", None),
        ("usr/share/codec2/raw/testframes_700d.raw", None),
        ("usr/share/codec2/octave/test_qam16.raw", None),
        ("usr/share/codec2/octave/vq", None),
    ],
)
def test_other_files_of_codec2(path, use):
    label = packages.classify(source_of("codec2-examples"), path)
    assert (label and label.use) == use


@pytest.mark.parametrize(
    ("package", "path", "use", "speaker", "language"),
    [
        (
            "asterisk-core-sounds-fr-wav",
            "usr/share/asterisk/sounds/fr_CA_f_June/digits/1.wav",
            "validate",
            "asterisk-fr-june",
            "fr",
        ),
        (
            "klettres-data",
            "usr/share/klettres/da/alpha/a.ogg",
            "validate",
            "klettres-da",
            "da",
        ),
        ("klettres-data", "usr/share/klettres/uk/alpha/a.ogg", "reserved", "klettres-uk", "uk"),
        ("klettres-data", "usr/share/klettres/hu/syllab/b.ogg", "train", "klettres-hu", "hu"),
        (
            "ktuberling-data",
            "usr/share/ktuberling/sounds/fr/hat.wav",
            "reserved",
            "ktuberling-fr",
            "fr",
        ),
        (
            "ktuberling-data",
            "usr/share/ktuberling/sounds/sr@latin/hat.ogg",
            "train",
            "ktuberling-sr@latin",
            "sr@latin",
        ),
        (
            "tuxpaint-stamps-default",
            "usr/share/tuxpaint/stamps/animals/cow_desc_bg.ogg",
            "train",
            "tuxpaint-bg",
            "bg",
        ),
        (
            "tuxpaint-stamps-default",
            "usr/share/tuxpaint/stamps/symbols/math/7_el.ogg",
            "reserved",
            "tuxpaint-el",
            "el",
        ),
        (
            "hedgewars-data",
            "usr/share/games/hedgewars/Data/Sounds/voices/Default_uk/Hello.ogg",
            "reserved",
            "hedgewars-Default-uk",
            "uk",
        ),
        (
            "hedgewars-data",
            "usr/share/games/hedgewars/Data/Sounds/voices/Pirate/Hello.ogg",
            "train",
            "hedgewars-Pirate",
            "en",
        ),
        (
            "drascula-italian",
            "usr/share/scummvm/drascula/it/VB7.ALS",
            "train",
            "drascula-it-VB",
            "it",
        ),
        ("drascula-spanish", "usr/share/scummvm/drascula/es/12.ALS", "train", "drascula-es", "es"),
        (
            "warzone2100-data",
            "usr/share/games/warzone2100/base.wz.d/audio/memressp/power/pcv346.ogg",
            "validate",
            "warzone-computer",
            "en",
        ),
    ],
)
def test_who_speaks_and_for_what(package, path, use, speaker, language):
    label = packages.classify(source_of(package), path)
    assert (label.use, label.speaker, label.language) == (use, speaker, language)


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps/animals/mammals/cow.ogg"),
        ("drascula-italian", "usr/share/scummvm/drascula/it/S3.ALS"),
        ("drascula-italian", "usr/share/scummvm/drascula/it/1.ALG"),
        ("hedgewars-data", "usr/share/games/hedgewars/Data/Music/hell.ogg"),
        ("hedgewars-data", "usr/share/games/hedgewars/Data/Sounds/voices/Surfer/Ow3.ogg"),
        ("warzone2100-data", "usr/share/games/warzone2100/base.wz.d/audio/sfx/misc/scream.ogg"),
        ("fillets-ng-data-cs", "usr/share/games/fillets-ng/sound/cave/cs/jes-x-auu.ogg"),
    ],
)
def test_no_speech_is_left_out(package, path):
    assert packages.classify(source_of(package), path) is None


def test_every_rule_is_sound():
    for source in packages.SOURCES:
        for rule in source.rules:
            groups = re.compile(rule.pattern).groupindex
            assert rule.use in (*packages.USES, packages.RESERVED, packages.BY_LANGUAGE, "")
            assert set(re.findall(r"{(\w+)}", rule.speaker)) <= set(groups)
            if rule.use == packages.BY_LANGUAGE:
                assert "language" in groups
            if rule.use in ("train", "validate", "classic"):
                assert rule.speaker
                assert rule.language or "language" in groups


def test_no_amateur_language_is_on_two_sides():
    for language in ("da", "fr", "hu", "nl"):
        sides = {
            packages.classify(source_of(package), path.format(language)).use
            for package, path in (
                ("klettres-data", "usr/share/klettres/{}/alpha/a.ogg"),
                ("ktuberling-data", "usr/share/ktuberling/sounds/{}/eye.ogg"),
            )
        }
        assert len(sides) == 1


@pytest.mark.parametrize(
    ("language", "side"),
    [("nl", "reserved"), ("nl_BE", "reserved"), ("lt", "validate"), ("sr@latin", "train")],
)
def test_side_of_language(language, side):
    assert packages.side_of(language) == side


def test_no_reserved_package_is_in_the_table():
    assert not {source.package for source in packages.SOURCES} & set(packages.RESERVED_PACKAGES)


# Selection ------------------------------------------------------------------------------------


def test_select_by_use_and_name():
    assert [s.package for s in packages.select_sources([], ["classic"])] == ["codec2-examples"]
    validate = {s.package for s in packages.select_sources([], ["validate"])}
    assert {"klettres-data", "asterisk-core-sounds-fr-wav", "warzone2100-data"} <= validate
    assert not {"festvox-ru", "hedgewars-data"} & validate
    assert [s.package for s in packages.select_sources(["gcin-voice"], [])] == ["gcin-voice"]
    assert packages.select_sources([], []) == list(packages.SOURCES)


@pytest.mark.parametrize(
    ("name", "message"),
    [("asterisk-core-sounds-en-wav", "held out"), ("no-such-voice", "not in the table")],
)
def test_select_refuses(name, message):
    with pytest.raises(packages.FetchError, match=f"^{name}: .*{message}"):
        packages.select_sources([name], [])
