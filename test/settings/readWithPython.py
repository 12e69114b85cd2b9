"""Reads many conf files with Python's configparser: a JSON list of texts in, a JSON list of what it made of each out.

A text that Python refuses gives null, any other {section: {key: value}}, where the value is null if it cannot be
interpolated. Sections do not include [DEFAULT], whose keys stand in each section as Python gives them.
"""
import configparser
import io
import json
import sys


def value(parser, section, key):
    try:
        return parser.get(section, key)
    except configparser.InterpolationError:
        return None


def read(text):
    parser = configparser.ConfigParser()
    # As `open` reads a file: UTF-8, any line ending, and here also a byte order mark.
    file = io.TextIOWrapper(io.BytesIO(text.encode("utf-8")), encoding="utf-8-sig")
    try:
        parser.read_file(file)
    except configparser.Error:
        return None
    return {name: {key: value(parser, name, key) for key in parser.options(name)} for name in parser.sections()}


texts = json.loads(sys.stdin.buffer.read().decode("utf-8"))
sys.stdout.write(json.dumps([read(text) for text in texts]))
