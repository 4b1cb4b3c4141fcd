"""One spelling of a word that is spelt in two ways and sounds the same: *colour* and *color*, *ok* and *okay*."""

from __future__ import annotations

import re
from functools import lru_cache

_WHOLE = {
    "ok": "okay", "mr": "mister", "mrs": "missus", "missis": "missus", "dr": "doctor", "prof": "professor", "st": "saint", "vs": "versus",
    "jr": "junior", "sr": "senior", "etc": "et cetera", "alright": "all right", "grey": "gray", "greys": "grays", "greyish": "grayish",
    "plough": "plow", "ploughs": "plows", "ploughed": "plowed", "ploughing": "plowing", "cheque": "check", "cheques": "checks",
    "tyre": "tire", "tyres": "tires", "programme": "program", "programmes": "programs", "moustache": "mustache", "moustaches": "mustaches",
    "pyjamas": "pajamas", "sceptic": "skeptic", "sceptics": "skeptics", "sceptical": "skeptical", "scepticism": "skepticism",
    "kerb": "curb", "kerbs": "curbs", "draught": "draft", "draughts": "drafts", "draughty": "drafty", "judgement": "judgment",
    "judgements": "judgments", "acknowledgement": "acknowledgment", "ageing": "aging", "cosy": "cozy", "storey": "story",
    "storeys": "stories", "practise": "practice", "practised": "practiced", "practises": "practices", "practising": "practicing",
    "gaol": "jail", "artefact": "artifact", "artefacts": "artifacts", "disc": "disk", "discs": "disks", "axe": "ax",
    "omelette": "omelet", "omelettes": "omelets", "doughnut": "donut", "doughnuts": "donuts", "yoghurt": "yogurt", "whisky": "whiskey",
    "jewellery": "jewelry", "woollen": "woolen", "skilful": "skillful", "skilfully": "skillfully", "wilful": "willful",
    "wilfully": "willfully", "fulfil": "fulfill", "fulfils": "fulfills", "fulfilment": "fulfillment", "enrol": "enroll",
    "enrols": "enrolls",
    "enrolment": "enrollment", "instalment": "installment", "instalments": "installments", "distil": "distill", "distils": "distills",
    "instil": "instill", "enquiry": "inquiry", "enquiries": "inquiries", "enquire": "inquire", "likeable": "likable", "sizeable": "sizable",
    "carcase": "carcass", "phoney": "phony", "analogue": "analog", "licence": "license", "licences": "licenses", "hiccough": "hiccup",
    "haulier": "hauler", "chilli": "chili", "nought": "naught",
}  # fmt: skip
_IZE = re.compile(r"(\w{2,})is(e|es|ed|er|ers|ing|ation|ations|able)")
_NOT_IZE = frozenset(  # words in which "-ise" is no ending: on both sides of the Atlantic they are written with an s
    """
    adv advert ar chast circumc compr comprom conc dem desp dev disgu enterpr exc exerc expert franch improv inc merchand no parad po
    pra prec prem prom ra rev superv surm surpr telev treat w otherw likew clockw sunr pr an bru cru mala turquo torto porpo lia appra
    gu mayonna cher uncompr repr rer anticlockw counterclockw elsew lengthw edgew bra chem val cer marqu v dev
    """.split()  # noqa: SIM905
)
_OUR = re.compile(
    r"(?<=arb)our|(?<=ard)our|(?<=arm)our|(?<=behavi)our|(?<=cand)our|(?<=clam)our|(?<=col)our|(?<=demean)our|(?<=dol)our|(?<=endeav)our"
    r"|(?<=enam)our|(?<=fav)our|(?<=ferv)our|(?<=flav)our|(?<=harb)our|(?<=hon)our|(?<=hum)our|(?<=lab)our|(?<=neighb)our|(?<=\bod)our"
    r"|(?<=parl)our|(?<=ranc)our|(?<=rig)our|(?<=rum)our|(?<=savi)our|(?<=sav)our|(?<=splend)our|(?<=succ)our|(?<=tum)our|(?<=val)our"
    r"|(?<=vap)our|(?<=vig)our"
)
_RE = re.compile(r"(cent|fib|lit|met|theat|calib|lust|sab|spect|somb|meag|och|mit|sepulch|reconnoit)re(d?)(s?)")
_LL = re.compile(
    r"(travel|model|label|cancel|signal|fuel|level|quarrel|counsel|jewel|marvel|channel|tunnel|total|dial|equal|rival|initial|pedal"
    r"|enamel|libel|panel|shovel|swivel|unravel|funnel|duel|medal|gravel|pencil|devil)l(ed|ing|ers?|ors?|ous|ists?)"
)
_DIGRAPH = re.compile(
    r"an(?:ae)(?=m|sthe)|haem|(?<=k)aem|(?<=c)aem(?=i)|isch?aem|glycaem|\buraem|toxaem|paed(?=i|o)|gynaec|palaeo|mediaev|\bfaec|\bcaes"
    r"|\baesthe|oedem|\boesoph|\boestr|\bfoet|manoeuv|diarrhoe|amoeb|homoeo"
)
_ENDINGS = (
    (re.compile(r"(anal|paral|catal|electrol|hydrol)ys(e|es|ed|er|ers|ing)\b"), r"\1yz\2"),
    (re.compile(r"(catal|dial|monol|epil|prol|homol)ogue(s?)\b"), r"\1og\2"),
    (re.compile(r"(def|off|pret)ence(?=s?\b|less)"), r"\1ense"),
    (re.compile(r"sulph"), "sulf"),
    (re.compile(r"mould"), "mold"),
)


@lru_cache(maxsize=16_384)
def american(word: str) -> str:
    """A lower-case word as it is spelt in the United States, where that is another spelling of the same sound."""
    if word in _WHOLE:
        return _WHOLE[word]
    if (ends := _IZE.fullmatch(word)) and ends.group(1) not in _NOT_IZE:
        word = f"{ends.group(1)}iz{ends.group(2)}"
    if (ends := _RE.search(word)) and ends.end() == len(word):
        word = f"{word[: ends.start()]}{ends.group(1)}er{'ed' if ends.group(2) else ''}{ends.group(3)}"
    if (ends := _LL.search(word)) and ends.end() == len(word):
        word = f"{word[: ends.start()]}{ends.group(1)}{ends.group(2)}"
    word = _DIGRAPH.sub(lambda m: m.group().replace("ae", "e").replace("oe", "e"), _OUR.sub("or", word))
    for pattern, spelling in _ENDINGS:
        word = pattern.sub(spelling, word)
    return word
