"""What surrounds the words of prose: options, blanks, bullets, emphasis, brackets, abbreviations, Roman numerals."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, after, any_of, before, is_anywhere
from salad_eval.speakable.numbers import DIGITS

# --- layout ----------------------------------------------------------------------------------------------------------

layout = Rules()


@layout.add(r"(?m)^ ?(?:\(([A-J])\)|([A-J])\)) +(?=\S)", needs=")")
def option_in_brackets(match: re.Match[str]) -> str:
    letter = match.group(1) or match.group(2)
    return match.group() if _is_numeral(letter, match.string) else f"{letter}: "


def _is_numeral(letter: str, text: str) -> bool:
    return letter == "I" and is_anywhere(r"(?<![A-Za-z])(?:I[IV]|III)(?![A-Za-z])", text)


@layout.add(r"(?<![^\n])A\. (?=[^\n]*\nB\. )|(?<=\n)[B-J]\. ", needs="\n")
def option_in_list(match: re.Match[str]) -> str:
    # "A. Einstein" alone may be a name; with a line "B. …" below it, it is a list. A lone "B. Franklin" at the start of
    # a later line is read as an option: a pause too many, no word too few.
    return match.group() if _is_numeral(match.group()[0], match.string) else f"{match.group()[0]}: "


@layout.add(r"(?<=[^\n])\n(?=[A-J]: )", needs="\n")
def pause_before_option(match: re.Match[str]) -> str:
    return " " if match.string[match.start() - 1] in ".,;:?!" else "; "


@layout.add(r"(?<=[^\n.,;:?!])\n(?=[^\n])", needs="\n")
def pause_between_formulas(match: re.Match[str]) -> str:
    # A line without a word is a formula, and would run into its neighbor; lines of prose may be broken anywhere.
    lines = before(match, 80).rpartition("\n")[2], after(match, 80).partition("\n")[0]
    formulas = [
        line for line in lines if not re.search("[a-z]{3}", line) and re.search(r"[^A-Za-z\s.,;:?!'\"()-]", line)
    ]
    return "; " if formulas else match.group()


@layout.add(r"(?<=[0-9]),(?=[-−]?[0-9])", needs=",", also=DIGITS)
def comma_of_list(match: re.Match[str]) -> str:
    # "(-4.79,2.19)" and "0,1,2": a comma that parts thousands has at most three digits before it and just three after.
    left, right = (
        re.search(r"(?:[0-9]\.)?[0-9]+\Z|(?<!\.)\.[0-9]+\Z", before(match, 20)),
        re.match("[0-9]+", after(match, 20)),
    )
    thousands = left and right and len(left.group()) <= 3 and "." not in left.group() and len(right.group()) == 3
    return match.group() if thousands else ", "


@layout.add(r"(?<![0-9.,])(?<![0-9] )[0-9]{1,3}(?: 000)+(?![0-9.,]| [0-9])", needs="0", also=" ")
def blank_of_thousands(match: re.Match[str]) -> str:
    return match.group().replace(" ", ",")


@layout.add(
    r"(?m)^(?:[•◦▪‣●·] ?|° (?=[A-Z][a-z])|[*+-] +(?=[A-Za-z]{2})(?!open (?:paren|br))|#{1,6} +(?=[A-Za-z]))",
    needs="•◦▪‣●·*+-#°",
    silences="bullet",
)
def bullet(match: re.Match[str]) -> str:
    return ""


@layout.add(r"(?:(?<=[a-z]{3})|(?<=[?!.,;:])) [•◦▪‣●] (?=[A-Z][a-z]{2})", needs="•◦▪‣●", silences="bullet")
def bullet_in_line(match: re.Match[str]) -> str:
    return " " if match.string[match.start() - 1] in ".,;:?!" else "; "


@layout.add(r"(?<=[a-z:;,]) \* (?=[A-Za-z]{3})", needs="*", silences="bullet")
def asterisk_in_list(match: re.Match[str]) -> str:
    around = before(match, 200) + match.group() + after(match, 200)
    if "=" in before(match, 60) or around.count(" * ") < 2:
        return match.group()  # "force = mass * acceleration"
    return " " if before(match, 1) in (":", ";", ",") else "; "


@layout.add(
    r"(?<=\b[A-Za-z]{7} [0-9]) ?\| *(?=[A-Z])|(?<=\b[A-Za-z]{8} [0-9]) ?\| *(?=[A-Z])"
    r"|(?<=\b[A-Za-z]{9} [0-9]) ?\| *(?=[A-Z])",
    needs="|",
    silences="layout",
)
def bar_after_label(match: re.Match[str]) -> str:
    return ": "  # "Statement 1| All dogs bark."


@layout.add(r"(?<=[A-Za-z]{2}[a-z.,;:!?]) ?\| +(?=[A-Za-z]{2})", needs="|", silences="layout")
def bar_between_phrases(match: re.Match[str]) -> str:
    return " " if match.string[match.start() - 1] in ".,;:?!" else "; "


@layout.add(r"\*\*(?=\w)([^*\n]{1,200}?)(?<=[\w.,;:!?)])\*\*(?!\w)", needs="*", silences="emphasis")
def bold(match: re.Match[str]) -> str:
    return match.group(1)


@layout.add(
    r"(?m)^=([A-Z][^=\n]{2,120})=(?=--|—|\s|$)"
    r"|(?<![\w*'’.])_(?=[A-Za-z])([^_\n]{0,300}[A-Za-z.,;:!?])_(?![A-Za-z0-9_(])",
    needs="=_",
    silences="emphasis",
)
def emphasis_in_books(match: re.Match[str]) -> str:
    return match.group(1) or match.group(2)


@layout.add(
    r"(?<![A-Za-z0-9_*.'’])([*_])(?=[\w'\"“‘])([^*_\n]{0,300}[A-Za-z]{2}[^*_\n]{0,300}?)"
    r"(?<=[\w.,;:!?'\"”’)])\1(?![A-Za-z0-9_*(])",
    needs="*_",
    silences="emphasis",
)
def emphasis(match: re.Match[str]) -> str:
    return match.group(2)


@layout.add(r"```[a-z]{0,12}\n?|(?<!`)`(?!`)(?=[^`\n]{1,80}`)|(?<=[^`\s])`(?![A-Za-z`])", needs="`", silences="markup")
def backticks(match: re.Match[str]) -> str:
    return ""


@layout.add(r"(?<=[A-Za-z])`(?=[a-z])|(?<!\S)`(?=[A-Za-z])|`(?=')|``", needs="`", silences="markup")
def backtick_for_apostrophe(match: re.Match[str]) -> str:
    return "'" if len(match.group()) == 1 else '"'


@layout.add(r"_{2,}|(?<!\S)_(?!\S)|(?<!\S)\(\s{1,10}\)(?!\w)|(?<!\S)\[\s{0,10}\](?!\w)", needs="_()[]")
def blank(match: re.Match[str]) -> str:
    return "blank"


_NO_FORMULA = r"[^\[\]{}=+*\\|<>^\n•∃∀⊃∨∧≡~]"
_PROSE_IN_BRACKETS = (
    rf"(?:(?![/_0-9]){_NO_FORMULA}){{0,400}}(?<![A-Za-z])[A-Z]?[a-z]{{2}}(?![A-Z0-9]){_NO_FORMULA}{{0,400}}"
)


@layout.add(
    rf"\[(?={_PROSE_IN_BRACKETS}\])(?!'|\"[^\"\]]*\",)|\{{(?={_PROSE_IN_BRACKETS}\}})(?!'|[^}}]*, ?[^}}]*,)",
    needs="[{",
    silences="brackets",
)
def bracket_before_prose(match: re.Match[str]) -> str:
    return "(" if not match.string[match.start() - 1 : match.start()].isalnum() else " ("


@layout.add(r"(?<=[A-Za-z.,;:!?'\"’”)0-9])[\]}]", needs="]}", silences="brackets")
def bracket_after_prose(match: re.Match[str]) -> str:
    # The opening one has become a parenthesis already where it stood before prose.
    left = before(match, 900)
    opened, closed = left.rfind("("), max(left.rfind(")"), left.rfind("["), left.rfind("{"))
    return ")" if opened > closed else match.group()


@layout.add(
    r"\(\*{1,3}\)|(?<=[A-Za-z]{3})\*{1,3}(?=[\s.,;:?!)]|\Z)|(?<=[.,;:!?'\"”])\*{1,3}(?=\s|\Z)"
    r"|(?<=[.,;:?!'\"”])\[[0-9]{1,3}\](?=[\s.,;]|\Z)|(?<=[a-z,.;?!\"”] )\[[0-9]{1,3}\](?=\s|\Z)",
    needs="*[",
    silences="note mark",
)
def note_mark(match: re.Match[str]) -> str:
    return ""


# --- abbreviations ---------------------------------------------------------------------------------------------------

abbreviations = Rules()

_ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Ms", "Prof.": "Professor", "Jr.": "Junior", "Sr.": "Senior",
    "Mt.": "Mount", "Gen.": "General", "Col.": "Colonel", "Lt.": "Lieutenant", "Capt.": "Captain", "Sgt.": "Sergeant",
    "Gov.": "Governor", "Sen.": "Senator", "Rep.": "Representative", "Rev.": "Reverend", "Ave.": "Avenue",
    "Blvd.": "Boulevard", "Rd.": "Road", "Inc.": "Incorporated", "Ltd.": "Limited", "Corp.": "Corporation",
    "Dept.": "Department", "approx.": "approximately", "Approx.": "Approximately", "vs.": "versus", "vs": "versus",
    "cf.": "compare", "viz.": "namely", "ca.": "circa", "e.g.": "for example", "E.g.": "For example",
    "i.e.": "that is", "I.e.": "That is", "w/o": "without", "w/": "with", "etc.": "et cetera", "et al.": "and others",
    "&c.": "et cetera", "and/or": "and or", "And/or": "And or", "24/7": "twenty-four seven", "c/o": "care of",
    "9/11": "nine eleven", "AT&T": "A T and T", "50/50": "fifty fifty",
}  # fmt: skip
_FULL_STOP_STAYS = {"etc.", "&c.", "Jr.", "Sr.", "Inc.", "Ltd.", "Corp.", "et al.", "Ave.", "Blvd.", "Rd."}


@abbreviations.add(
    r"(?<![A-Za-z.])(?<![0-9/])(?:" + any_of(_ABBREVIATIONS) + r")(?![A-Za-z])(?![0-9/])(?=( [A-Z]|\s*$)?)",
    needs="./v&",
)
def abbreviation(match: re.Match[str]) -> str:
    # At the end of a sentence one full stop does two duties, and the second one is still needed.
    ends_sentence = match.group(1) is not None and match.group() in _FULL_STOP_STAYS
    return _ABBREVIATIONS[match.group()] + ("." if ends_sentence else "")


@abbreviations.add(r"(?<![A-Za-z.])(St|Dr)\.( (?=[A-Z]))?", needs=".")
def saint_street_doctor_drive(match: re.Match[str]) -> str:
    named = re.search(r"[A-Z0-9][a-z0-9]+ \Z", before(match, 30)) is not None
    title, road = {"St": ("Saint", "Street"), "Dr": ("Doctor", "Drive")}[match.group(1)]
    if match.group(2):
        return f"{title} "
    at_end = not after(match, 2).strip()
    return (road if named else title) + ("." if at_end else "")


_BEFORE_NUMBER = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "eq": "equation", "eqs": "equations",
    "p": "page", "pp": "pages", "ch": "chapter", "sec": "section", "vol": "volume", "c": "circa", "art": "article",
}  # fmt: skip


@abbreviations.add(
    rf"(?i)(?<![A-Za-z.])({'|'.join(sorted(_BEFORE_NUMBER, key=len, reverse=True))})\. ?(?=[0-9])", needs=DIGITS
)
def abbreviation_before_number(match: re.Match[str]) -> str:
    word = _BEFORE_NUMBER[match.group(1).lower()]
    return (word.capitalize() if match.group(1)[0].isupper() else word) + " "
