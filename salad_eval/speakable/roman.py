"""Roman numerals, by what stands around them: *World War one*, *type two errors*, *Henry the eighth*, *one and three only*.

A numeral of two letters or more is one wherever it stands, but for the few that are words of their own (``IV`` is a drip,
``XX`` a pair of chromosomes). ``I``, ``V`` and ``X`` are numerals after a noun that is counted, after the name of a ruler, in
a list with other numerals, and as the mark of a statement beside ``II.``; elsewhere they are letters, and ``I`` the pronoun.
"""

from __future__ import annotations

import re

from salad_eval.speakable.chemistry import ELEMENTS
from salad_eval.speakable.engine import Rules, after, any_of, before, is_anywhere
from salad_eval.speakable.numbers import cardinal, ordinal, year

rules = Rules()

_NUMERAL = r"(?=[IVXL])(?:X[LC]|L?X{0,3})(?:IX|IV|V?I{0,3})"  # 1 to 99
_LONG = r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})"  # of two letters or more, without L
_SMALL = r"(?=[ivx])x{0,3}(?:ix|iv|v?i{0,3})"
_ANY = rf"(?:{_NUMERAL})(?![A-Za-z])"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def _names(names: str) -> frozenset[str]:
    return frozenset(names.lower().split())


def value(numeral: str) -> int:
    """``"XIV"`` or ``"xiv"`` to 14."""
    digits = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-a if a < b else a for a, b in zip(digits, [*digits[1:], 0], strict=True))


def _cardinal(numeral: str) -> str:
    return cardinal(str(value(numeral)))


def _cardinals(text: str) -> str:
    """Every numeral of a chain, ``I, II and IV``, as a cardinal; the link stays, but for the sign of a range."""
    words = re.sub(r"(?<=[IVXLivxl])[-–](?=[IVXLivxl])", " to ", text)
    return re.sub(rf"(?<![A-Za-z])(?:{_NUMERAL}|{_SMALL})(?![A-Za-z])", lambda m: _cardinal(m.group()), words)


# --- the pronoun ------------------------------------------------------------------------------------------------------

# What follows the pronoun and never a numeral: auxiliaries, verbs of saying and thinking, adverbs.
_AFTER_PRONOUN = re.compile(
    r"['’](?:m|ve|d|ll|s)\b|[ ,]+(?:am|was|have|had|has|will|would|can|could|do|did|does|don|shall|should|may|might|must|ought|"
    r"think|thought|know|knew|like|liked|love|want|need|see|saw|say|said|take|took|get|got|go|went|come|came|make|made|find|"
    r"found|feel|felt|believe|hope|wish|mean|meant|guess|suppose|use|used|read|write|wrote|give|gave|tell|told|ask|hear|heard|"
    r"hate|prefer|remember|forget|forgot|choose|chose|buy|bought|keep|kept|leave|left|live|work|play|teach|taught|learn|"
    r"attend|enjoy|miss|try|never|ever|always|also|just|only|really|still|already|now|then|once|often|usually|actually|"
    r"probably|personally|myself|cannot|am)\b(?!-)"
)


# After the name of a ruler a verb in the past may be his: "Charles I was executed", but "Charles I know".
_AFTER_PRONOUN_AND_NAME = re.compile(
    r"['’](?:m|ve|d|ll)\b|[ ,]+(?:am|have|think|know|like|love|want|need|see|hope|wish|believe|guess|suppose|do|don|can|shall|"
    r"should|may|might|must|mean|feel|remember|prefer|myself|saw|said|met|told|thought|knew|loved|liked|wanted)\b"
)


def _is_pronoun(right: str) -> bool:
    return _AFTER_PRONOUN.match(right) is not None


# --- rulers -----------------------------------------------------------------------------------------------------------

_RULERS = _names("""
    Abbas Abdallah Abdulaziz Abdul Abdullah Abdulhamid Abdulmejid Adolf Adrian Afonso Agesilaus Ahmed Ahmose Akbar Albert Alexander
    Alexandra Alexei Alexios Alexis Alfonso Alfred Alphonse Alphonso Amadeo Amadeus Amenemhat Amenhotep Andrew Anne Antiochus
    Antony Ardashir Artaxerxes Arthur Attalus August Augustus Aurangzeb Baldwin Basil Baudouin Bayezid Beatrix Benedict Bernard
    Berenice Bhumibol Bohemond Boleslaw Boniface Boris Callixtus Cambyses Canute Carl Carlos Carol Casimir Catherine Celestine
    Charles Childeric Christian Christina Christopher Clement Cleopatra Clovis Conrad Constans Constantine Constantius Cosimo Cyrus
    Dagobert Darius David Demetrius Djoser Edmund Edward Eleanor Elizabeth Emmanuel Emanuel Eric Erik Ernest Eugene Eugenius
    Faisal Farouk Felipe Ferdinand Fernando Francesco Francis Franz Frederick Frederik Friedrich Fuad George Geo Gregory Gustaf Gustav
    Gustavus Guy Haakon Hadrian Hakon Hamad Hamid Harald Harold Harun Hassan Heinrich Henri Henry Herod Hirohito Honorius Humbert Hussein
    Ibrahim Idris Innocent Isaac Isabel Isabella Ismail Ivan James Jane Jean Jerome Jigme Joan Joao João John Joseph Josef Juan
    Juana Julius Justin Justinian Kamehameha Karl Kenneth Khufu Knut Kosciuszko Ladislaus Ladislas Leo Leopold Letsie Lothair Louis
    Louise Lucius Ludwig Luis Luitpold Magnus Mahmud Malcolm Manuel Margaret Margrethe Maria Marie Martin Mary Matilda Matthias
    Maximilian Mehmed Mehmet Menander Menelik Michael Mieszko Mithridates Mohamed Mohammad Mohammed Mongkut Moshoeshoe Mswati Muhammad
    Murad Mustafa Mutesa Napoleon Nebuchadnezzar Nebuchadrezzar Nicholas Nikolai Norodom Olaf Olav Osman Oscar Otto Pahlavi Paul
    Pedro Pepi Pepin Peter Petr Phillip Philip Pius Pomare Psamtik Ptolemy Radama Rainier Rama Ramesses Ramses Rameses Ranavalona Raymond
    Reza Richard Robert Roger Roderick Rudolf Rudolph Rupert Sancho Sargon Saud Seleucus Selim Seti Shapur Sheshonq Siegfried Sigismund
    Simeon Sixtus Sobhuza Stanislaus Stanislaw Stephen Suleiman Suleyman Sylvester Taharqa Tewodros Theodora Theodore Theodoric
    Theodosius Theodorus Thomas Thutmose Tiberius Tiglath-Pileser Tigranes Tokugawa Tupou Tuthmosis Umberto Urban Vajiravudh Valdemar
    Valentinian Victor Victoria Vigilius Viktor Vittorio Vladimir Vladislaus Vlad Waldemar Wenceslas Wenceslaus Wilhelm Wilhelmina
    Willem William Xerxes Yazdegerd Yohannes Zog
    Wangchuck Saifuddien Gormsson Jagiellon Aquino Rockefeller Cornelius Walter Samuel Benjamin Daniel Harry Adam Alan Frank Fred Charlie
    """)
_TITLE = re.compile(
    r"(?<![A-Za-z])(?:[Kk]ing|[Qq]ueen|[Ee]mperor|[Ee]mpress|[Pp]ope|[TC]s?[zs]ar|[Kk]aiser|[Ss]ultan|[Pp]rince|[Pp]rincess|"
    r"[Dd]uke|[Aa]rchduke|[Pp]haraoh|[Ss]hah|[Cc]aliph|[AaEe]mir|Khan|Count|Margrave|Elector|Patriarch|Lord|Saint|St\.|"
    r"Archbishop|Cardinal|Dom|Don) (?:[A-Z][A-Za-zÀ-ÿ'’-]+ (?:of |al-)?){0,3}\Z"
)
_STARTER = re.compile(
    r"\. (?:The|He|She|It|They|We|In|On|At|By|His|Her|Their|This|That|These|A|An|After|Before|During|When|While|As|But|And|For|"
    r"From|Of|To|With|Who|What|Which|How|Why|There|Its|If|Though|Although|However)\b"
)


def _is_initial(numeral: str, right: str) -> bool:
    """Whether ``V`` in "Charles V. Smith" is the initial of a middle name and no numeral at the end of a sentence."""
    return len(numeral) == 1 and re.match(r"\. ?[A-Z]", right) is not None and not _STARTER.match(right)


def _is_ruler(name: str, left: str, numeral: str) -> bool:
    if _counted_noun(name) or name.endswith(("'s", "’s")):
        return False
    if name.lower() in _RULERS or _TITLE.search(left):
        return True
    clause = re.split(r"[,;:()\n]|[a-z] (?=[a-z])", left)[-1]  # "John D. Rockefeller III"
    return len(numeral) > 1 and any(n.lower() in _RULERS for n in re.findall(r"[A-Z][A-Za-zÀ-ÿ-]+", clause)[-2:])


_NAME_BEFORE = re.compile(r"(?<![A-Za-z])([A-Z][A-Za-zÀ-ÿ'’-]{1,20})( the |, | )\Z")


@rules.add(
    rf"(?<=[A-Za-z.,])(?<! {{2}}) ({_NUMERAL})(?![A-Za-z0-9-]|['’](?!s))((?:(?:,? and |, )(?:{_LONG})(?![A-Za-z0-9-]))*)",
    needs="IVX",
)
def regnal_number(match: re.Match[str]) -> str:
    numeral, more = match.groups()
    left, right = f"{before(match, 60)} ", after(match)
    found = _NAME_BEFORE.search(left)
    if found is None or not _is_ruler(found.group(1), left[: found.start()], numeral):
        return match.group()
    says_i = _AFTER_PRONOUN_AND_NAME.match(right) and not re.search(
        r"(?:[Dd]id|[Dd]oes) (?:[A-Z]\w+ )?\Z", left[: found.start()]
    )
    if numeral == "L" or (numeral == "I" and (says_i or found.group(2) == ", ")):
        return match.group()
    if found.group(2) == ", " and (len(numeral) == 1 or not re.match(r"[.,;)]|\Z", right)):
        return match.group()  # "Henry, II" but not "Henry, VI was"
    if _is_initial(numeral, right) or (found.group(1) == "Malcolm" and numeral == "X"):
        return match.group()
    the = "" if found.group(2) == " the " else "the "
    more = re.sub(_LONG, lambda m: f"the {ordinal(str(value(m.group())))}", more)
    return f" {the}{ordinal(str(value(numeral)))}{more}"


@rules.add(rf"(?<![A-Za-z])Geo\. ?({_NUMERAL})(?![A-Za-z0-9])", needs="G")
def george(match: re.Match[str]) -> str:
    return f"George the {ordinal(str(value(match.group(1))))}"


# --- nouns that are counted -------------------------------------------------------------------------------------------

# After these even "V" and, of most, "I" is a number.
_COUNTED = _names("""
    War Chapter Part Act Scene Volume Book Canto Phase Type Stage Class Section Article Title Schedule Appendix Annex Figure Table Plate
    Level Grade Group Category Division Tier Statement Experiment Study Trial Mark Series Episode Season Photosystem Complex Factor
    Angiotensin Collagen Nerve Lamina Layer Order Period Prophase Metaphase Anaphase Telophase Meiosis Polymerase Topoisomerase
    Calculus Algebra Geometry Biology Physics Chemistry Economics Spanish French German English Latin Step Region Zone Quadrant Amendment
    Vatican Basel Saturn Apollo Gemini Titan Rocky Bowl Pentium Laboratory Rescue Penal Court Scenario Plan Model Scheme Proposition
    Theorem Lemma Corollary Hypothesis Equation Form Unit Module Lesson Course Kinase Band Tablet Sermon Response Degree Case
    Interval Axis Lead Carrier Pathway Subtype Mobitz Salter Herpes Cluster Diabetes Bipolar Axiom Postulate Law Corps Cohort
    """)
_ABBREVIATED = {
    "vol": "volume", "vols": "volumes", "ch": "chapter", "chap": "chapter", "chaps": "chapters", "sec": "section", "sect": "section",
    "no": "number", "nos": "numbers", "art": "article", "pt": "part", "bk": "book", "fig": "figure", "figs": "figures",
    "pp": "pages", "sc": "scene", "tab": "table", "cap": "chapter", "lib": "book", "app": "appendix",
}  # fmt: skip
_NOUN_BEFORE = re.compile(r"(?<![A-Za-z])([A-Za-z][a-z]{2,15}|[A-Z]{3,16})[ -]\Z")
_CLOSE = r"(?:,? (?:and|or|to|through|than|versus|vs\.?|but not|nor) |, |/|[-–]| ?& ?)"
# A lower-case noun may have a clause of "I" after it: "the part I like". These have not, before a noun.
_SURE_IN_LOWER_CASE = _names(
    "type phase stage class grade level tier category photosystem prophase metaphase anaphase telophase meiosis angiotensin "
    "polymerase topoisomerase collagen lamina complex calculus algebra factor mobitz subtype diabetes group"
)
_TEN_AFTER = _names("chapter act volume book article title amendment nerve factor lamina bowl apollo canto scene part")
_LETTER_AFTER = _names(  # "V" and "X" are labels after these
    "plan model scheme case region zone band order form study trial experiment lead layer level group scenario"
)


@rules.add(
    rf"(?<=[A-Za-z][ -])({_NUMERAL})([A-Ea-e]?)(?![A-Za-z0-9'’]|\.[A-Z]\.)((?:{_CLOSE}(?:{_NUMERAL})(?![A-Za-z0-9'’-]))*)",
    needs="IVXL",
)
def counted_numeral(match: re.Match[str]) -> str:
    numeral, letter, more = match.groups()
    left = before(match)
    found = _NOUN_BEFORE.search(left)
    noun = _counted_noun(found.group(1)) if found else ""
    if found is None or not noun or not _is_number_after(found.group(1), noun, numeral, more or after(match), left):
        return match.group()
    return _cardinals(f"{numeral} {letter}".strip() + more)


def _counted_noun(word: str) -> str:
    """The noun in the singular and in lower case if it is one that is counted; else empty."""
    word = word.lower()
    return next((n for n in (word, word.removesuffix("s"), word.removesuffix("es")) if n in _COUNTED), "")


def _is_number_after(noun: str, kind: str, numeral: str, right: str, left: str) -> bool:
    if numeral == "L" or (numeral == "X" and kind not in _TEN_AFTER) or (numeral == "V" and kind in _LETTER_AFTER):
        return False
    if numeral != "I" or (kind == "war" and re.search("[Ww]orld ", left)):
        return True
    if re.match(
        rf"\s*(?:\Z|[;:)\]!?/–-]|[.,](?!\w)|(?:and|or|to|through|vs\.?|versus|,)? ?(?:{_LONG})(?![A-Za-z]))", right
    ):
        return not (right.startswith(",") and noun.islower() and kind not in _SURE_IN_LOWER_CASE)
    if right.startswith(" ") and noun.islower():
        return kind in _SURE_IN_LOWER_CASE and not _is_pronoun(right) and not re.match(" [a-z]+ed ", right)
    return not _is_pronoun(right)


@rules.add(
    rf"(?=[A-Za-z]{{1,5}}\. ?[ivxIVXL])(?<![A-Za-z.])(?:({any_of([*_ABBREVIATED, *map(str.capitalize, _ABBREVIATED)])})\. ?"
    rf"({_SMALL}|{_NUMERAL})|p\. ?({_SMALL}))(?![A-Za-z0-9])",
    needs=".",
)
def numeral_after_abbreviation(match: re.Match[str]) -> str:
    short, numeral, of_page = match.groups()
    if of_page is not None:
        return f"page {_cardinal(of_page)}"
    if (len(numeral) == 1 and numeral.isupper() and numeral != "I") or (short in ("no", "No") and len(numeral) == 1):
        return match.group()
    if numeral == "I" and _is_pronoun(after(match)):
        return match.group()
    word = _ABBREVIATED[short.lower()]
    return f"{word.capitalize() if short[0].isupper() else word} {_cardinal(numeral)}"


_NOUN_BEFORE_SMALL = re.compile(
    r"(?i)(?<![a-z])(?:chapter|part|book|volume|act|scene|section|page|canto|stanza|verse|line|note|step|option|statement)s? \(?\Z"
)


@rules.add(rf"(?=[ivx]{{1,6}}(?![A-Za-z0-9'’]))(?:(?<=[A-Za-z] )|(?<=[A-Za-z] \())({_SMALL})(?![A-Za-z])", needs="ivx")
def small_numeral_after_noun(match: re.Match[str]) -> str:
    numeral = match.group()
    if _NOUN_BEFORE_SMALL.search(before(match)) is None:
        return numeral
    if len(numeral) == 1 and not re.match(r"[.,;:)](?!e\.)|\s*\Z", after(match)):
        return numeral  # "the part i like", in a text without capitals
    return _cardinal(numeral)


_ELEMENT_NAME = re.compile(rf"(?i)(?<![a-z]){any_of([*ELEMENTS.values(), 'sulphur', 'aluminium', 'caesium'])} ?\Z")


@rules.add(
    r"(?<![A-Za-z])([A-Z][a-z]?)\((I{1,3}|IV|VI{0,3})\)|(?<=[a-z]{3})( ?)\((I{1,3}|IV|VI{0,3})\)", needs="(", also="IV"
)
def oxidation_number(match: re.Match[str]) -> str:
    symbol, number, blank, number_of_name = match.groups()
    if symbol is not None:
        return f"{' '.join(symbol.upper())} {_cardinal(number)}" if symbol in ELEMENTS else match.group()
    name = _ELEMENT_NAME.search(before(match))
    if name is None or (blank and name.group().lower() in ("iodine", "vanadium")):
        return match.group()  # "iodine (I)" is a symbol
    return f" {_cardinal(number_of_name)}"


@rules.add(
    rf"(?<![A-Za-z])({_NUMERAL})"
    r"(?=(?: |-)(?:[Cc]entur(?:y|ies)|Olympiad|(?:Summer |Winter )?Olympic|Army Corps|Corps|Amendment|[Dd]ynasty|Legion)(?![a-z]))",
    needs="IVX",
)
def ordinal_numeral(match: re.Match[str]) -> str:
    return ordinal(str(value(match.group()))) if match.group() not in ("L", "I") else match.group()


# --- lists ------------------------------------------------------------------------------------------------------------

_WITH = r"(?:,? ?(?:\band\b|\bor\b|&|\bto\b|\bthrough\b|\bbut not\b|\bnor\b|\bvs\.?|\bversus\b) ?| ?, ?|[-–/]| )"


@rules.add(
    rf"(?<![A-Za-z0-9'’.-])(?:\(?{_ANY} ?\)?(?:{_WITH})){{1,8}}\(?{_ANY}(?![A-Za-z0-9'’])",
    needs="IVX",
)
def numerals_in_list(match: re.Match[str]) -> str:
    numerals = re.findall(rf"(?<![A-Za-z]){_ANY}", match.group())
    if not any(len(n) > 1 and set(n) <= set("IVX") and n not in ("XX", "XXX") for n in numerals) or "L" in numerals:
        return match.group()
    if numerals[-1] == "I" and len(numerals) > 1 and _is_pronoun(after(match)):
        return match.group()
    if len(set(numerals)) == 1:
        return match.group()
    return _cardinals(match.group())


@rules.add(
    rf"(?<![A-Za-z0-9])\(?{_ANY} ?\)? only\b(?! [a-z])|\A(?:[Oo]nly|[Bb]oth|[Nn]either|[Ee]ither) \(?{_ANY} ?\)?\.?\Z",
    needs="IVX",
)
def numeral_alone(match: re.Match[str]) -> str:
    single = re.search(r"(?<![A-Za-z])[VXL](?![A-Za-z])", match.group()) is not None
    return match.group() if single and (match.start() or "V" not in match.group()) else _cardinals(match.group())


_MARK_OF_TWO = r"(?<![A-Za-z])II[.):]|(?m:^II *$)"


@rules.add(
    rf"(?<![A-Za-z0-9.'’-])({_ANY})(?=[.):] ?[A-Z(\[\"“~¬Σ∀0-9a-z])|(?<![A-Za-z0-9]\()(?<=\()({_NUMERAL})(?=\))"
    rf"|(?m:^)({_NUMERAL})(?=\.? *(?m:$))",
    needs="IVX",
)
def mark_of_statement(match: re.Match[str]) -> str:
    # "I. All men are mortal. II. Some …" and "(I) [-1, 3) (II) …": one letter alone might be an initial.
    numeral = next(group for group in match.groups() if group)
    if len(numeral) == 1 and (numeral == "L" or not is_anywhere(_MARK_OF_TWO, match.string)):
        return match.group()
    if len(numeral) > 1 and (numeral in ("XX", "XXX") and not re.match(r"\. ", after(match))):
        return match.group()
    if "L" in numeral and match.string[match.start() - 1 : match.start()] not in ("", "\n"):
        return match.group()  # "(KPV LV)", "sizes (M, L, XL)"
    if (
        len(numeral) == 1
        and re.search(r"[A-Z][a-z]+ \Z|[A-Z]\. \Z", before(match))
        and re.match(r"\. ?[A-Z]", after(match))
    ):
        return match.group()  # "Vladimir I. Lenin"
    return _cardinal(numeral)


@rules.add(rf"(?<=\()({_SMALL})(?=\))|(?m:^)({_SMALL})(?=[.)] )|(?<=[\s,])({_SMALL})(?=\) )", needs="i", also=")\n")
def small_mark_of_statement(match: re.Match[str]) -> str:
    numeral = next(group for group in match.groups() if group)
    if not is_anywhere(r"(?<![A-Za-z])ii[.)]", match.string):
        return match.group()
    return _cardinal(numeral)


@rules.add(
    rf"(?=[ivx]{{1,6}}[, ])(?<![A-Za-z0-9'’-]){_SMALL}(?:, {_SMALL}(?![a-z])){{0,6}},? (?:and|or) {_SMALL}(?![A-Za-z0-9'’-])",
    needs="i",
)
def small_numerals_in_list(match: re.Match[str]) -> str:
    numerals = re.findall(rf"(?<![a-z]){_SMALL}(?![a-z])", match.group())
    return _cardinals(match.group()) if any(len(n) > 1 for n in numerals) else match.group()


# --- and alone --------------------------------------------------------------------------------------------------------

_DRIP = re.compile(
    r"['’]s?\b|[- ](?:\w+ )?(?:drips?|bags?|lines?|fluids?|drugs?|administration|therap|antibiotic|infusion|injection|catheter|access|"
    r"push|pole|bolus|needle|tube|medication|solution|saline|dose|site|users?|use|route|contrast|treatment|heparin|push|"
    r"estimat|regress|method)"
)


@rules.add(r"(?<![A-Za-z0-9.])IV(?![A-Za-z0-9])", needs="V")
def drip(match: re.Match[str]) -> str:
    left = before(match)
    counted = re.search(r"[A-Z][\w.]*[-– ]\Z|[0-9]\Z", left) and not re.search(r"(?:The|An|Given|Via) \Z", left)
    if _DRIP.match(after(match)) or not counted:
        return "I V"
    return match.group()


@rules.add(r"(?<![A-Za-z0-9])XX(?![A-Za-z0-9])", needs="X")
def chromosomes(match: re.Match[str]) -> str:
    return "X X"


@rules.add(r"(?<![A-Za-z0-9])XI(?![A-Za-z0-9])", needs="X")
def family_name(match: re.Match[str]) -> str:
    return "Xi" if is_anywhere("Jinping", match.string) else match.group()


@rules.add(
    r"(?=[-–])(?<=[A-Za-z]{2})(-|–)(II|III|IV|VI|VII|VIII|IX)(?![A-Za-z0-9])|(?<=[A-Z]{3})(-|–)(I|V)(?![A-Za-z0-9'’])"
    r"|(?<=[A-Z][a-z]{3})(-|–)(I)(?=[);,]|\Z)|(?<=[a-z]{3})(-|–)(I)(?= \()",
    needs="-–",
    also="IV",
)
def numeral_after_hyphen(match: re.Match[str]) -> str:
    hyphen, numeral = (group for group in match.groups() if group)
    return f"{hyphen}{_cardinal(numeral)}"


@rules.add(r"I(?:(?<=[A-Za-zÀ-ÿ]{3} I)(?=\))|(?<=[A-Za-zÀ-ÿ]{3} I)(?=, [A-Z][\w ]{2,20} II))", needs="I")
def first_of_two(match: re.Match[str]) -> str:
    name = re.search(r"(?<![^\W\d_])([A-ZÀ-Þ])[\w-]+ \Z", before(match))
    return "one" if name else match.group()  # "(Libertad I)", but "(say I)"


@rules.add(rf"(?<![A-Za-z0-9.&'’]){_LONG}(?![A-Za-z0-9&])", needs="IVX")
def numeral(match: re.Match[str]) -> str:
    return match.group() if match.group() in ("XX", "XXX") else _cardinal(match.group())


@rules.add(
    r"(?<![A-Za-z0-9.])(?=M[MDCLXVI]{4})M{1,3}(?:C[MD]|D?C{0,3})(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})(?![A-Za-z0-9])",
    needs="M",
)
def numeral_of_year(match: re.Match[str]) -> str:
    return year(str(value(match.group())))


@rules.add(r"(?m:^)(X?L[XVI]*|L?X{1,3}[VI]*)(?=\.? [A-Z])", needs="L")
def number_of_paragraph(match: re.Match[str]) -> str:
    numeral = match.group()
    return _cardinal(numeral) if len(numeral) > 1 and re.fullmatch(_NUMERAL, numeral) else numeral
