"""The parser of a command, without running the command."""

import argparse
import importlib
import sys
from unittest import mock

COMMANDS = (
    "common.compare", "common.data.__main__", "common.data.shapes", "common.evaluate", "common.pretrain", "common.report", "common.runs",
    "common.tables", "dfb.ablation", "dfb.classes", "dfb.evaluate", "dfb.figures", "dfb.finetune", "dfb.masks", "dfb.temperature", "dfb.tsne",
    "lbf.bars", "lbf.figures", "lbf.finetune", "lbf.selection", "lbf.sensitivity", "lbf.tsne",
)  # fmt: skip


class _Found(BaseException):
    pass


def parser_of(command: str) -> argparse.ArgumentParser:
    """What `command` would read its words with."""

    def stop(parser, *_, **__):
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop), mock.patch.object(sys, "argv", [command]):
        try:
            importlib.import_module(command).main()
        except _Found as found:
            return found.args[0]
    raise LookupError(f"{command} reads no words")
