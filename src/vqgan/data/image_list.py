"""A text file that lists images, one path a line."""

from pathlib import Path

from vqgan.config import Config
from vqgan.data.base import Source, Split, split_source
from vqgan.data.files import FileSource, WhichFrames
from vqgan.data.image_folder import FolderConfig
from vqgan.errors import DataError
from vqgan.images import list_images, printable


class ListConfig(Config, frozen=True, tag_field="kind", tag="list"):
    """The images that a text file lists.

    Attributes:
        path: The text file. Each line is a path, relative to the file's folder, optionally followed by a tab
            and the class. Blank lines and lines that begin with ``#`` are left out.
    """

    path: str

    @classmethod
    def example(cls, folder: Path) -> "ListConfig":
        """Eight noise images of two classes."""
        pictures = Path(FolderConfig.example(folder).path)
        paths = list_images(pictures)
        lines = [f"pictures/{path}\t{path.split('/')[0]}" for path in paths]
        (folder / "list.txt").write_text("# path, class\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return cls(path=str(folder / "list.txt"))


def open_list(config: ListConfig, split: Split, frames: WhichFrames = "first") -> Source:
    """Reads the list (not the images) and takes a part of it. The order is the file's.

    Raises:
        DataError: If the file is missing, no text or empty, or only some lines have a class.
    """
    file = Path(config.path).expanduser()
    name = printable(file)
    lines = _lines(file, name)
    if not lines:
        raise DataError(f"list `{name}` names no images", hint="write one path a line")
    paths: list[str] = []
    classes: list[str] = []
    for number, line in lines:
        path, tab, class_name = line.partition("\t")
        paths.append(Path(path.strip()).as_posix())
        if tab and class_name.strip():
            classes.append(class_name.strip())
        if len(classes) not in (0, len(paths)):
            raise DataError(
                f"line {number} of list `{name}` differs from those before: a class must stand in every line "
                "or in none",
                hint="write the path, a tab and the class",
            )
    source = FileSource(name=name, root=file.parent, paths=paths, classes=classes, frames=frames)
    return split_source(source, split)


def _lines(file: Path, name: str) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    try:
        data = file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"cannot read list `{name}`: {reason}", hint="check the path") from None
    if b"\0" in data:
        hint = "a list is a text file with one path a line; to use images themselves, give their folder"
        raise DataError(f"list `{name}` is not a text file", hint=hint)
    # Paths are bytes on most systems; what is no UTF-8 survives this way.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
