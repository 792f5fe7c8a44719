import re

import pytest
import torchvision

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.specs import BENCHMARKS, SPECS, canonical, check_ood, expand, is_control, parse, place, title

STAND_INS = {"textures-10", "textures-10-32px", "svhn-first-10000", "miniplaces-2500", "tiny-imagenet-boxes"}


def test_the_table_has_every_set_and_its_counts():
    assert (
        list(SPECS)
        == (
            "cifar10 cifar100 svhn lsun_crop lsun_resize isun textures places365 imagenet100 imagenet100-mcm imagenet1k "
            "inaturalist sun places imagenet_o textures-10 textures-10-32px svhn-first-10000 miniplaces-2500 tiny-imagenet-boxes"
        ).split()
    )
    counts = {name: spec.counts.get("test") for name, spec in SPECS.items()}
    assert (
        counts["svhn"] == 26_032
        and counts["isun"] == 8_925
        and counts["textures"] == 5_640
        and counts["imagenet_o"] == 2_000
    )
    assert {
        counts[name] for name in ("cifar10", "lsun_crop", "lsun_resize", "places365", "inaturalist", "sun", "places")
    } == {10_000}


def test_stand_ins_never_bear_a_benchmarks_name():
    titles = {spec.title for spec in SPECS.values() if spec.is_benchmark}
    assert {name for name, spec in SPECS.items() if not spec.is_benchmark} == STAND_INS
    assert not any(SPECS[name].title in titles for name in STAND_INS)


@pytest.mark.parametrize("kind", ["CIFAR10", "CIFAR100"])
def test_cifars_checksums_are_torchvisions(kind):
    theirs, ours = getattr(torchvision.datasets, kind), SPECS[kind.lower()]
    listed = dict(theirs.train_list + theirs.test_list) | {
        theirs.meta["filename"]: theirs.meta["md5"],
        theirs.filename: theirs.tgz_md5,
    }
    assert ours.md5s == listed and ours.urls == (theirs.url,)


def test_svhns_and_textures_checksums_are_torchvisions():
    listed = torchvision.datasets.SVHN.split_list
    assert SPECS["svhn"].md5s == {listed[split][1]: listed[split][2] for split in ("train", "test")}
    assert SPECS["textures"].md5s == {"dtd-r1.0.1.tar.gz": torchvision.datasets.DTD._MD5}


@pytest.mark.parametrize("name", SPECS)
def test_a_checksum_is_named_with_its_source_and_an_absent_set_says_how_to_get_it(name, tmp_path):
    spec = SPECS[name]
    assert bool(spec.md5s) == bool(spec.md5_source) and all(
        re.fullmatch("[0-9a-f]{32}", md5) for md5 in spec.md5s.values()
    )
    assert spec.urls or spec.by_hand
    with pytest.raises(UserError) as error:
        load(name, list(spec.counts)[-1], root=tmp_path)
    assert "not there" in str(error.value) and spec.how_to_get(tmp_path) in str(error.value)


def test_names_carry_options_and_paths():
    assert parse("imagenet1k:C=200,seed=0") == ("imagenet1k", {"C": "200", "seed": "0"})
    assert parse("folder:a/b:c,d=e") == ("folder", {"path": "a/b:c,d=e"})
    assert title("cifar10") == "CIFAR-10" and title("cifar10:encode=jpeg75") == "CIFAR-10 (encode=jpeg75)"


@pytest.mark.parametrize(
    "name, id_name, text",
    [
        ("tiny-imagenet-boxes", "cifar10", "tiny-imagenet-boxes is for localisation only"),
        ("imagenet1k", "imagenet100", "imagenet1k is an in-distribution set: it cannot be an OOD set"),
        ("cifar10", "cifar10", "cifar10 is the in-distribution set itself; its control sets are cifar10:encode=jpeg75"),
        ("nothing", "cifar10", "unknown data set 'nothing'"),
    ],
)
def test_what_cannot_be_out_of_distribution_is_refused(name, id_name, text):
    with pytest.raises(UserError, match=f"^{text}"):
        check_ood(name, id_name)


@pytest.mark.parametrize("name", ["cifar100", "isun", "textures-10", "cifar10:encode=jpeg75", "folder:x"])
def test_what_can_be_out_of_distribution_is_not_refused(name):
    check_ood(name, "cifar10")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("folder:a//b/./c/", "folder:a/b/c"), ("folder:a/../b", "folder:a/../b"), ("folder:/x/y:encode=jpeg75", "folder:/x/y:encode=jpeg75"),
        ("svhn:N=0100", "svhn:n=100"), ("svhn:", "svhn"), ("imagenet1k:seed=0,c=200", "imagenet1k:C=200,seed=0"),
        ("cifar10:ENCODE=JPEG75", "cifar10:encode=jpeg75"), ("svhn:m=5", "svhn:m=5"), ("shapes:seed=3", "shapes:seed=3"), ("nothing", "nothing"),
    ],
)  # fmt: skip
def test_a_set_has_one_spelling(name, expected):
    assert canonical(name) == expected == canonical(expected)


def test_an_option_given_twice_and_a_path_that_is_no_text_are_refused():
    with pytest.raises(UserError, match="^data set 'svhn:n=10,N=20' gives an option twice$"):
        parse("svhn:n=10,N=20")
    with pytest.raises(UserError, match="^the path of a set must be Unicode text"):
        parse("folder:a/\udce9")
    with pytest.raises(UserError, match=r"in one line, for it names rows of results; got 'a/\\nb'"):
        parse("folder:a/\nb")
    assert parse("folder:a/\u00a0b") == ("folder", {"path": "a/\u00a0b"})


def test_the_id_folder_is_found_out_under_any_spelling(tmp_path, monkeypatch, capsys):
    for name in ("mine/train", "mine/val", "mine/ood", "others"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("mine")
    monkeypatch.chdir(tmp_path)
    for name in ("mine/", "./mine", "link", tmp_path / "mine", "others/../mine"):
        with pytest.raises(UserError, match="is the in-distribution set itself$"):
            check_ood(f"folder:{name}", "folder:mine")
        assert place(f"folder:{name}") == place("folder:mine") != place("folder:others")
    with pytest.raises(UserError, match="^folder:link/val is the test split of the in-distribution set folder:mine$"):
        check_ood("folder:link/val", "folder:mine")
    check_ood("folder:mine/ood", "folder:mine")
    assert capsys.readouterr().err == ""
    check_ood("folder:link/train", "folder:mine")
    assert "folder:link/train is the training split of" in capsys.readouterr().err


def test_no_two_sets_share_a_title():
    names = "svhn svhn:n=10000 svhn:n=100 cifar10 cifar10:encode=jpeg75 cifar100:encode=jpeg75 cifar10:encode=webp75 svhn:n=10,encode=jpeg75 shapes".split()
    names += ["folder:a/birds", "folder:b/birds", "folder:birds", "folder:svhn", "folder:SVHN"]
    assert len({title(name) for name in names}) == len(names)
    assert title("folder:a/birds/") == title("folder:a/birds") and title("svhn:N=0100") == title("svhn:n=100")


def test_re_encoded_sets_are_controls_and_a_path_that_looks_like_one_is_none():
    assert is_control("cifar10:encode=jpeg75") and is_control("svhn:n=10,encode=webp9")
    assert not any(map(is_control, ("cifar10", "svhn:n=10", "folder:a:encode=jpeg75", "shapes:seed=1", "own set")))


def test_a_tables_sets_go_by_one_name_each_of_them_known():
    assert expand(["isun", "dfb-cifar10"]) == ["isun", "cifar100", "svhn", "places365", "textures"]
    assert (
        all(name in SPECS for names in BENCHMARKS.values() for name in names) and not BENCHMARKS.keys() & SPECS.keys()
    )
