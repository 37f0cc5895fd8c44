import logging
import os
import re
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, PngImagePlugin, features
from training_batches import same, training_batches

from densenet_cli.data import image_check
from densenet_cli.data.augmentation import affine, colour_jitter, lighting
from densenet_cli.data.colour_statistics import IMAGENET
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.options import OptionError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path, colour=0, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(colour).randint(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(root, images, classes=("ant", "bee", "cat"), splits=("train", "test")):
    """`images` pictures for each class and split; split "" stands for no split folder."""
    number = 0
    for split in splits:
        for name in classes:
            for place in range(images):
                number += 1
                write(root / split / name / f"{place}.png", number, (20 + number % 7, 18))
    return root


def folder(root, **options):
    data = ImageFolder(str(root), **{"batch_size": 8, "image_size": 16, "num_workers": 0, **options})
    data.prepare()
    return data


def names(split):
    return [os.path.join(*os.fsdecode(path).split(os.sep)[-3:]) for path in split.paths]


def test_train_and_test_folders(tmp_path):
    data = folder(fill(tmp_path / "a", 4))
    assert data.class_names == ["ant", "bee", "cat"]
    assert (data.num_classes, data.image_size) == (3, (16, 16))
    assert data.sizes == {"train": 12, "validation": 0, "test": 12}
    assert data.evaluation_split == "test"
    assert names(data._contents.test)[5] == "test/bee/1.png"
    assert data._contents.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("name", ["val", "validation", "Valid"])
def test_a_validation_folder_alone_is_the_test_set(tmp_path, name, caplog):
    caplog.set_level(logging.INFO)
    data = folder(fill(tmp_path / "a", 4, splits=("train", name)))
    assert data.sizes == {"train": 12, "validation": 0, "test": 12}
    assert f"the images of {tmp_path / 'a' / name} are the test images" in caplog.text


def test_three_folders_are_the_three_splits(tmp_path):
    root = fill(tmp_path / "a", 2, splits=("train", "val", "test"))
    write(root / "val" / "ant" / "more.png")
    data = folder(root)
    assert data.sizes == {"train": 6, "validation": 7, "test": 6}
    assert data.evaluation_split == "validation"
    with pytest.raises(OptionError, match=r"validation=2: must be 0: .*/val holds the held-out"):
        folder(root, validation=2)


def test_training_images_can_be_held_out_alike_in_their_classes(tmp_path):
    data = folder(fill(tmp_path / "a", 10), validation=6, seed=1)
    assert data.sizes == {"train": 24, "validation": 6, "test": 30}
    assert data._contents.validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    other = folder(tmp_path / "a", validation=6, seed=2)
    assert names(other._contents.validation) == names(data._contents.validation)
    assert not set(names(data._contents.train)) & set(names(data._contents.validation))


def test_class_folders_alone_are_split_the_same_way_every_time(tmp_path):
    root = fill(tmp_path / "a", 10, splits=("",))
    data = folder(root, seed=1, test_fraction=0.3, validation=3)
    assert data.sizes == {"train": 18, "validation": 3, "test": 9}
    assert np.bincount(data._contents.test.labels).tolist() == [3, 3, 3]
    other = folder(root, seed=2, test_fraction=0.3, validation=3)
    for split in ("train", "validation", "test"):
        assert names(getattr(other._contents, split)) == names(getattr(data._contents, split))


def test_a_class_may_be_called_train(tmp_path):
    classes = ("apple", "test_tube", "train")
    flat = folder(fill(tmp_path / "flat", 5, classes, splits=("",)))
    assert flat.class_names == list(classes)
    assert flat.sizes == {"train": 12, "validation": 0, "test": 3}
    split = folder(fill(tmp_path / "split", 4, classes))
    assert split.class_names == list(classes)
    assert split.sizes == {"train": 12, "validation": 0, "test": 12}
    assert names(split._contents.test)[-1] == "test/train/3.png"
    nested = fill(tmp_path / "nested", 4, classes)
    write(nested / "test" / "apple" / "train" / "deep.png")
    assert folder(nested).sizes == {"train": 12, "validation": 0, "test": 13}


def test_a_train_folder_alone_is_split_itself(tmp_path):
    data = folder(fill(tmp_path / "a", 5, splits=("train",)))
    assert data.sizes == {"train": 12, "validation": 0, "test": 3}


def test_any_image_file_counts_and_others_do_not(tmp_path):
    root = fill(tmp_path / "a", 2)
    for name in ("B.JPG", "c.jpeg", "deep/er/d.tiff", "e.webp", "f.bmp"):
        write(root / "train" / "ant" / name)
    write(root / "train" / "ant" / ".hidden.png")
    write(root / "train" / ".hidden" / "a.png")
    write(root / "train" / "ant" / ".thumbs" / "a.png")
    write(root / ".hidden" / "a.png")
    (root / "train" / "ant" / "notes.txt").write_text("not a picture")
    (root / "train" / "classes.csv").write_text("")
    assert folder(root).sizes["train"] == 11


@pytest.mark.parametrize("split", ["", "train"])
def test_folders_that_hold_themselves_are_searched_once(tmp_path, split, caplog):
    root = fill(tmp_path / "a", 5, splits=("train", "test") if split else ("",))
    plain = {name: names(getattr(folder(root)._contents, name)) for name in ("train", "test")}
    ant = root / split / "ant"
    for name, target in {"a": ".", "b": ".", "up": "..", "top": "../../..", "bee": "../bee"}.items():
        (ant / name).symlink_to(target)
    (root / split / "itself").symlink_to(".")
    (root / "over").symlink_to("..")
    write(tmp_path / "elsewhere" / "deep" / "1.png", 77)
    (ant / "more").symlink_to(tmp_path / "elsewhere")
    (ant / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    (root / split / "cat" / "again").symlink_to(tmp_path / "elsewhere")
    caplog.clear()
    contents = folder(root)._contents
    assert len(contents.train) + len(contents.test) == sum(map(len, plain.values())) + 1
    if split:
        assert names(contents.test) == plain["test"]
    (said,) = [record for record in caplog.records if "left out" in record.message]
    assert said.levelno == logging.WARNING
    assert f"{root}: left out: links to folders that are searched anyway: 9 (" in said.message
    assert str(ant / "a") in said.message


def test_a_class_folder_may_be_a_link(tmp_path):
    root = fill(tmp_path / "a", 4, splits=("",))
    (root / "bee").rename(tmp_path / "bees")
    (root / "bee").symlink_to(tmp_path / "bees")
    assert folder(root).sizes == {"train": 10, "validation": 0, "test": 2}
    (root / "wasp").symlink_to("bee")
    assert_refused(root, f"has two classes in {root} that are one folder: bee and wasp")
    (root / "wasp").unlink()
    (root / "wasp").symlink_to("nowhere")
    assert_refused(root, f"has a link that leads to nothing, {root}/wasp; mend or delete it")


def test_only_regular_files_are_read(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    os.mkfifo(root / "train" / "ant" / "x.png")
    (root / "train" / "ant" / "null.jpg").symlink_to(os.devnull)
    (root / "train" / "ant" / "notes.txt").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "train" / "ant" / "y.png"))
    assert folder(root).sizes["train"] == 6
    assert "pipes, sockets and devices: 3 (" in caplog.text
    assert f"links to nothing: 1 ({root}/train/ant/notes.txt)" in caplog.text


def test_what_systems_leave_beside_pictures_is_left_out_and_said(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    thumbs = ("@eaDir", ".@__thumb", "__MACOSX", ".thumbnails", ".ipynb_checkpoints", "#recycle")
    for name in thumbs:
        write(root / "train" / name / "0.png")
        write(root / "train" / "ant" / name / "0.png")
        write(root / name / "0.png")
    for name in ("._x.jpg", ".hidden.png", "Thumbs.db", "desktop.ini"):
        (root / "train" / "ant" / name).write_bytes(b"")
    data = folder(root)
    assert data.class_names == ["ant", "bee", "cat"]
    assert data.sizes["train"] == 6
    assert "hidden files, and files and folders of the system: 22 (" in caplog.text
    assert "@eaDir 3" in caplog.text


def test_every_kind_that_pillow_reads_counts_and_the_rest_is_said(tmp_path, caplog):
    root = fill(tmp_path / "a", 2)
    suffixes = ["gif", "jfif", "JPE", "webp", "bmp", "tiff", "ppm", "pgm", "tga", "ico"]
    suffixes += [
        name for name in ("avif", "jp2") if features.check({"jp2": "jpg_2000"}.get(name, name))
    ]
    for suffix in suffixes:
        write(root / "train" / "ant" / f"x.{suffix}")
    for name in ("a.heic", "b.HEIC", "c.cr2", "d.eps", "e.pdf", "f.h5", "readme"):
        (root / "train" / "bee" / name).write_bytes(b"")
    write(root / "train" / "lost.png")
    write(root / "more" / "dog" / "1.png")
    assert folder(root).sizes["train"] == 6 + len(suffixes)
    (said,) = [record.message for record in caplog.records if "left out" in record.message]
    assert "files of other kinds: 7 (.heic 2, .cr2, .eps, .pdf, .h5, no ending)" in said
    assert f"pictures in no class folder: 1 ({root}/train/lost.png)" in said
    assert "folders beside those of the splits: 1 (more)" in said


def test_no_other_program_is_run_to_read_a_file(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 2)
    script = root / "train" / "ant" / "a.jpg"
    Image.new("RGB", (9, 9)).save(script, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(UserError, match=r"^1 of 13 images of .* broken.*\n  \S+/train/ant/a.jpg: "):
        folder(root)


def test_classes_that_look_alike_are_named(tmp_path, caplog):
    root = fill(tmp_path / "a", 2, ("ant", "Ant", "a\u00f1o", "an\u0303o"), ("",))
    assert folder(root).num_classes == 4
    assert "Ant and ant are different classes, though they look alike" in caplog.text
    assert "an\u0303o and a\u00f1o are different classes" in caplog.text


def test_the_root_is_shown_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "flat", 2, splits=("",))
    (tmp_path / "flat" / "dog").mkdir()
    for typed in ("flat", "flat/", "./flat", "~/flat", f"{tmp_path}//flat/../flat"):
        with pytest.raises(OptionError) as caught:
            folder(typed)
        assert caught.value.value == typed
        assert str(caught.value).startswith(f"root={typed}: has no image in ")
        assert str(caught.value).endswith("flat for 1 of 4 classes: dog")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 2)
    (root / "train" / "ant" / "deep").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read all
    assert_refused(root, f"root={root}: {root}/train/ant/deep cannot be read .Permission denied.")


def test_batches_have_one_size_whatever_the_files_have(tmp_path):
    data = folder(fill(tmp_path / "a", 4))
    for images, labels in data.test_dataloader():
        images, labels = data.on_after_batch_transfer((images, labels), 0)
        assert images.shape == (len(labels), 3, 16, 16)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_depends_on_seed_and_epoch_alone(tmp_path, workers):
    root = fill(tmp_path / "a", 4)
    expected = training_batches(folder(root), 1)
    data = folder(root, num_workers=workers)
    training_batches(data, 0)
    assert same(training_batches(data, 1), expected)
    assert not same(training_batches(data, 2), expected)
    assert not same(training_batches(folder(root, seed=1), 1), expected)
    plain = folder(root, augment=False)
    assert not same(training_batches(plain, 1), expected)
    assert [labels.tolist() for _, labels in training_batches(plain, 1)] == [
        labels.tolist() for _, labels in expected
    ]


def test_images_are_mirrored_jittered_lit_and_normalised(tmp_path):
    data = folder(fill(tmp_path / "a", 2))
    images = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    draws = torch.arange(9) * 2**57 + torch.arange(9)
    changed = data.augmented(images, draws)
    mirrored = torch.where((draws & 1).bool().view(-1, 1, 1, 1), images.flip(2), images).float()
    pixels = affine(mirrored, *colour_jitter(mirrored, draws)) / 255
    pixels += lighting(draws).view(-1, 1, 1, 3)
    expected = (pixels - torch.tensor(IMAGENET["mean"])) / torch.tensor(IMAGENET["std"])
    torch.testing.assert_close(changed, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("normalise", "mean"), [("imagenet", 0.485), ("scale", 0.0)])
def test_statistics_that_are_not_measured(tmp_path, normalise, mean):
    data = folder(fill(tmp_path / "a", 2), normalise=normalise)
    assert data.statistics["mean"][0] == mean


def test_measured_statistics_are_those_of_training_images_as_they_are_tested(tmp_path):
    data = folder(fill(tmp_path / "a", 3), normalise="mean_std", validation=3)
    plain = folder(tmp_path / "a", normalise="scale", validation=3, augment=False)
    pixels = torch.cat([images for images, _ in training_batches(plain, 0)]).double()
    assert data.statistics["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    expected = pixels.std((0, 2, 3), correction=0).tolist()
    assert data.statistics["std"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("image_size", 7, "image_size=7: must be a whole number, 8 or more"),
        ("image_size", None, "image_size=null: must be"),
        ("test_fraction", 1.0, "test_fraction=1.0: must be a number above 0 and below 1"),
        ("check", "no", "check=no: must be true or false"),
        ("normalise", "none", "normalise=none: must be one of mean_std, scale, imagenet"),
        ("validation", 12, "validation=12: must leave at least one of the 12 training images"),
    ],
)
def test_an_option_that_breaks_its_rule_is_named(tmp_path, key, value, rule):
    with pytest.raises(OptionError, match=rule) as caught:
        folder(fill(tmp_path / "a", 4), **{key: value})
    assert caught.value.key == key


def test_a_folder_must_be_given():
    with pytest.raises(OptionError, match=r"root=null: must be a folder; for example root=/path"):
        ImageFolder(None, 8)


def assert_refused(root, rule):
    with pytest.raises(OptionError, match=rule) as caught:
        folder(root)
    assert caught.value.key == "root"


def test_folders_that_are_not_as_they_should_be_are_named(tmp_path):
    assert_refused(tmp_path / "none", "root=.*none: is no folder")
    write(tmp_path / "file.png")
    assert_refused(tmp_path / "file.png", "is no folder")
    assert_refused(tmp_path / "cache", "is no folder")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "needs two class folders at least in .*empty, which has 0")
    assert_refused(
        fill(tmp_path / "one", 2, ("ant",), ("",)), "needs two class folders at least.* has 1"
    )
    fill(tmp_path / "untrained", 2, splits=("val", "test"))
    assert_refused(tmp_path / "untrained", "has test and val, but no train folder")
    fill(tmp_path / "twice", 2, splits=("train", "val", "validation"))
    assert_refused(tmp_path / "twice", "has two folders for one split: val and validation")


def test_classes_that_do_not_agree_are_named(tmp_path):
    root = fill(tmp_path / "a", 2)
    write(root / "test" / "dog" / "0.png")
    write(root / "test" / "eel" / "0.png")
    assert_refused(root, r"has classes in .*test that are not in train: dog, eel")


def test_classes_without_images_are_named(tmp_path):
    root = fill(tmp_path / "a", 2)
    for name in ("dog", "eel"):
        (root / "train" / name).mkdir()
    assert_refused(root, r"has no image in .*train for 2 of 5 classes: dog, eel")
    root = fill(tmp_path / "b", 2, ("ant", "bee", "cat"), ("train",))
    fill(root, 2, ("ant",), ("test",))
    assert_refused(root, r"has no image in .*test for 2 of 3 classes: bee, cat")


def break_three(root):
    paths = [root / "train" / "ant" / "0.png", root / "train" / "cat" / "1.png"]
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_text("no picture")
    link = root / "test" / "bee" / "9.png"
    link.symlink_to(root / "nowhere.png")
    return [*paths, link]


def test_all_broken_files_are_named_at_once(tmp_path):
    root = fill(tmp_path / "a", 2)
    broken = break_three(root)
    for _ in range(2):  # a broken file is not forgotten
        with pytest.raises(UserError) as caught:
            folder(root)
        message = str(caught.value)
        assert message.startswith(f"3 of 13 images of {root} are broken")
        assert sorted(re.findall(r"^  (\S+): ", message, re.M)) == sorted(map(str, broken))
        assert f"{broken[2]}: No such file or directory\n" in message + "\n"


def test_every_fault_of_a_decoder_is_one_line(tmp_path, monkeypatch):
    def fail(path):
        raise {"0": AssertionError(), "1": ValueError("two\n  lines")}[path[-5]]

    monkeypatch.setattr(image_check, "read_rgb", fail)
    with pytest.raises(UserError) as caught:
        folder(fill(tmp_path / "a", 2))
    assert len(str(caught.value).splitlines()) == 13
    assert "/0.png: AssertionError\n" in str(caught.value)
    assert "/1.png: two lines\n" in str(caught.value)


def test_without_a_check_a_broken_file_is_named_when_it_is_read(tmp_path):
    root = fill(tmp_path / "a", 2)
    broken = break_three(root)[:2]
    data = folder(root, check=False)
    with pytest.raises(UserError, match=r"train/\w+/\d.png cannot be read .*; mend or delete it"):
        list(data.train_dataloader())
    for path in broken:
        assert path.exists()


def test_large_pictures_are_not_called_broken(tmp_path):
    root = fill(tmp_path / "a", 2)
    huge = root / "train" / "ant" / "huge.png"
    Image.new("1", (20_000, 10_000)).save(huge)
    with pytest.raises(UserError) as caught:
        folder(root)
    assert str(caught.value) == (
        f"1 of 13 images of {root} are larger than data.max_pixels=178956970 allows, though not "
        f"broken; data.max_pixels=200000000 reads them:\n  {huge}: has 200,000,000 pixels"
    )
    huge.unlink()
    write(huge, 1, (30, 40))
    (root / "train" / "bee" / "bad.png").write_text("")
    with pytest.raises(UserError) as caught:
        folder(root, max_pixels=1199)
    assert str(caught.value).splitlines() == [
        f"1 of 14 images of {root} are broken; mend or delete them:",
        f"  {root}/train/bee/bad.png: it is empty",
        f"1 of 14 images of {root} are larger than data.max_pixels=1199 allows, though not broken; "
        "data.max_pixels=1200 reads them:",
        f"  {huge}: has 1,200 pixels",
    ]


@pytest.mark.parametrize("limit", [1200, None])
def test_the_limit_on_pixels_holds_for_files_checked_before_and_without_a_check(tmp_path, limit):
    root = fill(tmp_path / "a", 2)
    for place in range(8):
        write(root / "train" / "ant" / f"wide{place}.png", place, (30, 40))
    assert len(training_batches(folder(root, max_pixels=limit), 0)) == 2
    with pytest.raises(UserError, match=r"8 of 20 images .* larger than data.max_pixels=1199 allows"):
        folder(root, max_pixels=1199)
    data = folder(root, max_pixels=1199, check=False)
    rule = r"wide\d.png has 1,200 pixels, and data.max_pixels=1199 allows no more; data.max_pixels=1200"
    with pytest.raises(UserError, match=rule):
        list(data.train_dataloader())


@pytest.mark.parametrize("chunk", ["zTXt", "iTXt", "tEXt"])
def test_pngs_with_long_texts_are_read(tmp_path, chunk):
    root = fill(tmp_path / "a", 2)
    texts = PngImagePlugin.PngInfo()
    if chunk == "iTXt":
        texts.add_itxt("workflow", "0" * 2_000_000, zip=True)
    else:
        texts.add_text("workflow", "0" * 2_000_000, zip=chunk == "zTXt")
    path = root / "train" / "ant" / "x.png"
    Image.new("RGB", (20, 20)).save(path, pnginfo=texts)
    assert folder(root).sizes["train"] == 7
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        UserError, match=rf"null reads them:\n  {path}: has texts of more than 1,000,000 b"
    ):
        folder(root, max_pixels=1_000_000)
    assert folder(root, max_pixels=None).sizes["train"] == 7


def test_pictures_in_training_and_elsewhere_are_counted_once(tmp_path, caplog):
    root = fill(tmp_path / "a", 3, splits=("train", "val", "test"))
    shutil.copy(root / "train" / "bee" / "1.png", root / "test" / "ant" / "same.png")
    shutil.copy(root / "train" / "bee" / "2.png", root / "test" / "bee" / "same.png")
    shutil.copy(root / "train" / "cat" / "2.png", root / "val" / "cat" / "same.png")
    for _ in range(2):  # from the note, too
        caplog.clear()
        folder(root)
        (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert (
            "1 of 10 validation images and 2 of 11 test images are training images too" in said.message
        )
        assert f"{root}/test/ant/same.png is {root}/train/bee/1.png" in said.message
    caplog.clear()
    folder(fill(tmp_path / "b", 3, splits=("train", "val", "test")))
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_held_out_pictures_that_are_test_pictures_are_named(tmp_path, caplog):
    root = fill(tmp_path / "a", 3, splits=("train", "val", "test"))
    shutil.copy(root / "test" / "bee" / "2.png", root / "val" / "bee" / "same.png")
    folder(root)
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert said.message == (
        f"1 of 10 validation images are test images too ({root}/val/bee/same.png is "
        f"{root}/test/bee/2.png): errors will look lower than they are"
    )


def test_pictures_that_are_split_are_compared_too(tmp_path, caplog):
    root = fill(tmp_path / "a", 5, splits=("",))
    for path in list(root.glob("*/*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    folder(root, validation=4)
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(r"\d of 4 validation images and|and \d of 4 validation images", said.message)
    assert re.search(r"\d of 6 test images", said.message)
    assert said.message.endswith("errors will look lower than they are")


def test_a_broken_file_whose_name_is_not_utf_8_is_named(tmp_path, typed):
    root = fill(tmp_path / "a", 2)
    open(os.fsencode(root / "train" / "ant") + b"/caf\xe9\n.jpg", "wb").close()
    words = ["data=image_folder", f"data.root={root}", "model=densenet_bc", "trainer=cpu"]
    status, said = typed(*words, "hydra.run.dir=run")
    message = (
        f"1 of 13 images of {root} are broken; mend or delete them:\n  {root}/train/ant/caf\\xe9\\n.jpg"
    )
    assert (status, said) == (1, f"densenet-run: {message}: it is empty\n")
    assert "caf\\xe9\\n.jpg: it is empty" in (tmp_path / "run" / "run.log").read_text()


def test_good_files_are_decoded_once_until_they_change(tmp_path, monkeypatch):
    root = fill(tmp_path / "a", 3)
    folder(root)
    decoded = []
    real = image_check.read_rgb
    monkeypatch.setattr(image_check, "read_rgb", lambda path: decoded.append(path) or real(path))
    folder(root)
    assert not decoded
    changed = write(root / "train" / "ant" / "0.png", 99, (30, 30))
    added = write(root / "test" / "bee" / "new.png", 98)
    touched = root / "train" / "cat" / "2.png"  # rewritten, as long as before
    os.utime(touched, ns=(1, 1))
    folder(root)
    assert sorted(decoded) == sorted(map(str, [changed, added, touched]))


def test_the_check_works_where_nothing_can_be_noted(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    root = fill(tmp_path / "a", 2)
    assert folder(root).sizes["train"] == 6
    break_three(root)
    with pytest.raises(UserError, match="3 of 13 images"):
        folder(root)


def test_a_damaged_note_is_ignored(tmp_path, cache):
    root = fill(tmp_path / "a", 2)
    folder(root)
    (note,) = cache.rglob("*.npy")
    note.write_bytes(b"damaged")
    assert folder(root).sizes["train"] == 6


def test_workers_are_at_most_the_cores_and_eight(tmp_path, monkeypatch):
    monkeypatch.setattr("densenet_cli.data.image_folder.usable_cores", lambda: 64)
    data = folder(fill(tmp_path / "a", 2), num_workers=None)
    assert data.workers() == 8
    monkeypatch.setattr("densenet_cli.data.image_folder.usable_cores", lambda: 3)
    assert data.workers() == 3
    data.num_workers = 0
    assert data.workers() == 0
