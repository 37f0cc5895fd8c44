"""Tables of small random images, in the forms in which they are published."""

import csv
from pathlib import Path

from image_folders import write

from densenet_cli.data.image_table import ImageTable

NIH = [
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
    *("View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", ""),
]
CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Edema", "Fracture"]
HAM = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]


def write_table(path, columns, rows, separator=","):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=separator).writerows([columns, *rows])
    return path


def table(path, **options):
    """The data set of a table, before it is read."""
    return ImageTable(
        str(path), **{"batch_size": 8, "image_size": 16, "num_workers": 0, "check": False, **options}
    )


def read(path, **options):
    data = table(path, **options)
    data.prepare()
    return data


def split_of(data, name):
    """The images of a split: names of files without ending, and labels."""
    split = getattr(data._contents, name)
    names = [Path(split.source.name(index)).stem for index in range(len(split))]
    return dict(zip(names, split.labels.tolist(), strict=True))


def simple(root, rows, columns=("image", "label"), name="labels.csv"):
    """A table with the images of its first column in the same folder."""
    for number, row in enumerate(rows):
        if not (Path(root) / row[0]).exists():
            write(Path(root) / row[0], number)
    return write_table(Path(root) / name, columns, rows)


def nih(root, patients=10, images=3):
    """ChestX-ray14: Data_Entry_2017.csv, test_list.txt, and folders of images."""
    findings = ["No Finding", "Edema", "Edema|Mass", "Mass", "No Finding"]
    rows = []
    for patient in range(1, patients + 1):
        for place in range(images):
            name = f"{patient:08d}_{place:03d}.png"
            write(Path(root) / f"images_{1 + patient % 3:03d}" / "images" / name, len(rows))
            finding = findings[(patient + place) % 5]
            rows.append([name, finding, place, patient, "058Y", "M", "PA", 268, 274, 0.1, 0.1, ""])
    test = [row[0] for row in rows if row[3] % 5 == 0]
    (Path(root) / "test_list.txt").write_text("\n".join(test))
    return write_table(Path(root) / "Data_Entry_2017.csv", NIH, rows)


def chexpert(root, patients=8):
    """CheXpert: train.csv with uncertain and blank labels, valid.csv without; paths with a folder."""
    for split, first, columns in (
        ("train", 1, (["1.0", "", "0.0"], ["", "-1.0", "1.0", "0.0"], ["", "1.0", ""])),
        ("valid", 64541, (["0.0", "1.0"], ["1.0", "0.0"], ["0.0"])),
    ):
        rows = []
        for patient in range(first, first + patients):
            for view in ("view1_frontal", "view2_lateral"):
                path = f"{split}/patient{patient:05d}/study1/{view}.jpg"
                write(Path(root) / path, patient)
                labels = [cells[len(rows) % len(cells)] for cells in columns]
                rows.append([f"CheXpert-v1.0-small/{path}", "Male", 60, "Frontal", "AP", *labels])
        write_table(Path(root) / f"{split}.csv", CHEXPERT, rows)
    return Path(root) / "train.csv"


def ham(root, lesions=12):
    """HAM10000: two images of each lesion, in two folders; names without ending."""
    rows = []
    for lesion in range(lesions):
        for place in (1, 2):
            name = f"ISIC_{24306 + len(rows):07d}"
            write(Path(root) / f"HAM10000_images_part_{place}" / f"{name}.jpg", len(rows))
            kind = ("nv", "mel", "nv", "bkl")[lesion % 4]
            rows.append([f"HAM_{lesion:07d}", name, kind, "histo", "80.0", "male", "scalp"])
    return write_table(Path(root) / "HAM10000_metadata.csv", HAM, rows)
