"""Written English to spoken English, as a table of what is written and what a reader says."""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salad_eval.errors import SaladError
from salad_eval.speakable import (
    NO_WIDTH,
    PUNCTUATION,
    REJECTS,
    RULES,
    Rewriter,
    Unspeakable,
    spoken_spans,
    symbols,
    to_spoken,
)
from salad_eval.speakable.engine import Rule
from tests.helpers.places import SHARED_DATA
from tests.speed.bench_speakable import SOURCES, rows

CASES = [
    # whole numbers
    ("0", "zero"),
    ("7", "seven"),
    ("21 cats", "twenty-one cats"),
    ("100", "one hundred"),
    ("101", "one hundred one"),
    ("1,234", "one thousand two hundred thirty-four"),
    ("2,100,000 people", "two million one hundred thousand people"),
    ("1500 people", "one thousand five hundred people"),
    ("007", "zero zero seven"),
    ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
    ("Apollo 11 landed", "Apollo eleven landed"),
    ("I scored 5!", "I scored five!"),
    ("I have 5. You have 6.", "I have five. You have six."),
    ('"5" and (6)', '"five" and (six)'),
    # decimals
    ("3.14", "three point one four"),
    ("0.05", "zero point zero five"),
    (".5", "zero point five"),
    ("1,000,000.50", "one million point five zero"),
    ("version 1.2.3", "version one point two point three"),
    # negative numbers and subtraction
    ("-5", "minus five"),
    ("x = -3", "x equals minus three"),
    ("(-2.5)", "(minus two point five)"),
    ("−7", "minus seven"),
    ("10 - 5 = 5", "ten minus five equals five"),
    ("a - b", "a minus b"),
    # ordinals
    ("the 1st, 2nd, 3rd and 4th", "the first, second, third and fourth"),
    ("the 21st century", "the twenty-first century"),
    ("the 100th day", "the one hundredth day"),
    # years
    ("in 1905", "in nineteen oh five"),
    ("since 1776", "since seventeen seventy-six"),
    ("before 2003", "before two thousand three"),
    ("in 2021 it was", "in twenty twenty-one it was"),
    ("in 1900", "in nineteen hundred"),
    ("in 1500 cases", "in one thousand five hundred cases"),
    ("the 1990s", "the nineteen nineties"),
    ("the mid-1960s", "the mid-nineteen sixties"),
    ("the '60s and 80s", "the sixties and eighties"),
    ("1914-1918", "nineteen fourteen to nineteen eighteen"),
    ("1914–18", "nineteen fourteen to eighteen"),
    ("from 1939 to 1945", "from nineteen thirty-nine to nineteen forty-five"),
    ("between 1800 and 1850", "between eighteen hundred and eighteen fifty"),
    ("the war (1812)", "the war (eighteen twelve)"),
    ("1066 AD", "ten sixty-six AD"),
    ("1215 CE", "twelve fifteen CE"),
    # dates
    ("July 4, 1776", "July fourth, seventeen seventy-six"),
    ("4 July 1776", "the fourth of July, seventeen seventy-six"),
    ("on July 4th", "on July fourth"),
    ("The 4th of July", "The fourth of July"),
    ("July 1776", "July seventeen seventy-six"),
    ("2021-01-05", "January fifth, twenty twenty-one"),
    ("1/5/2021", "January fifth, twenty twenty-one"),
    ("25/12/2020", "December twenty-fifth, twenty twenty"),
    ("Jan. 5, 2020", "January fifth, twenty twenty"),
    ("12 May be wrong", "twelve May be wrong"),
    # times
    ("5:30 p.m. sharp", "five thirty p.m. sharp"),
    ("At 5:00.", "At five o'clock."),
    ("17:00", "seventeen hundred"),
    ("5:05 am", "five oh five a.m."),
    ("12:00 PM", "twelve p.m."),
    ("9 am", "nine a.m."),
    ("20:17", "twenty seventeen"),
    ("12:30-13:45", "twelve thirty to thirteen forty-five"),
    ("1:02:03", "one oh two and three seconds"),
    # ranges, ratios, telephones
    ("pages 5-10", "pages five to ten"),
    ("5–10 kg", "five to ten kilograms"),
    ("50%-60%", "fifty percent to sixty percent"),
    ("a 3:1 ratio", "a three to one ratio"),
    ("2:3:4", "two to three to four"),
    ("555-1234", "five five five, one two three four"),
    # percent and money
    ("5%", "five percent"),
    ("12.5 %", "twelve point five percent"),
    ("$5", "five dollars"),
    ("$1", "one dollar"),
    ("$5.50", "five dollars and fifty cents"),
    ("$0.99", "ninety-nine cents"),
    ("£1.01", "one pound and one penny"),
    ("$3.5 million", "three point five million dollars"),
    ("£2bn", "two billion pounds"),
    ("€1,000", "one thousand euros"),
    ("-$5", "minus five dollars"),
    ("¥300", "three hundred yen"),
    ("5¢", "five cents"),
    # units
    ("5 km", "five kilometers"),
    ("1 km", "one kilometer"),
    ("a 5-km run", "a five kilometer run"),
    ("6 ft", "six feet"),
    ("60 km/h", "sixty kilometers per hour"),
    ("1 mph, 60 mph", "one mile per hour, sixty miles per hour"),
    ("9.8 m/s²", "nine point eight meters per second squared"),
    ("9.8 m/s^2", "nine point eight meters per second squared"),
    ("25 m²", "twenty-five square meters"),
    ("1000 kg/m³", "one thousand kilograms per cubic meter"),
    ("300 K", "three hundred kelvin"),
    ("10 Ω", "ten ohms"),
    ("5 µm", "five micrometers"),
    ("30 kWh", "thirty kilowatt hours"),
    ("150 million km", "one hundred fifty million kilometers"),
    ("37 °C", "thirty-seven degrees Celsius"),
    ("-40 °F", "minus forty degrees Fahrenheit"),
    ("90°", "ninety degrees"),
    ("1°", "one degree"),
    ("3m + 4 = 10", "three m plus four equals ten"),
    ("5'10\"", "five feet ten inches"),
    # fractions
    ("1/2", "one half"),
    ("3/4", "three quarters"),
    ("2 1/2", "two and one half"),
    ("½", "one half"),
    ("2½", "two and one half"),
    ("17/23", "seventeen over twenty-three"),
    ("22/7", "twenty-two over seven"),
    # formulas
    ("2+2=4", "two plus two equals four"),
    ("3 x 4", "three times four"),
    ("3*4", "three times four"),
    ("6 ÷ 2 ± 0.5", "six divided by two plus or minus zero point five"),
    ("a < b", "a less than b"),
    ("a >= b", "a greater than or equal to b"),
    ("x ≠ y", "x not equal to y"),
    ("x² + y^2 = z³", "x squared plus y squared equals z cubed"),
    ("10⁻³", "ten to the power of minus three"),
    ("x^{10}", "x to the power of ten"),
    ("6.02 × 10^23", "six point zero two times ten to the power of twenty-three"),
    ("1e-5", "one times ten to the power of minus five"),
    ("x₁ and x_2", "x sub one and x sub two"),
    ("H₂O", "H two O"),
    ("CO2", "C O two"),
    ("SO₄²⁻", "S O four two minus"),
    ("f(x) = 2x + 1", "f of x equals two x plus one"),
    ("∞", "infinity"),
    ("√2", "the square root of two"),
    # Greek
    ("α and Ω", "alpha and omega"),
    ("Δx", "delta x"),
    ("2πr", "two pi r"),
    # abbreviations
    ("Dr. Smith met Mr. Jones.", "Doctor Smith met Mister Jones."),
    ("Mrs. Ray vs. Prof. Day", "Missus Ray versus Professor Day"),
    ("St. Paul", "Saint Paul"),
    ("on Main St. in town", "on Main Street in town"),
    ("a fruit, e.g. an apple", "a fruit, for example an apple"),
    ("the last, i.e. the third", "the last, that is the third"),
    ("cats, dogs, etc.", "cats, dogs, et cetera."),
    ("cats, etc. are", "cats, et cetera are"),
    ("No. 5 and Fig. 3", "Number five and Figure three"),
    ("pp. 5-10", "pages five to ten"),
    ("World War II", "World War two"),
    ("Henry VIII", "Henry the eighth"),
    ("w/o sugar", "without sugar"),
    # options and blanks
    ("Which?\n(A) cat\n(B) dog", "Which? A: cat; B: dog"),
    ("Choose\nA. cat\nB. dog\nC. bird", "Choose; A: cat; B: dog; C: bird"),
    ("B) dog", "B: dog"),
    ("A. Einstein", "A. Einstein"),
    ("The ____ is red.", "The blank is red."),
    ("The____is red.", "The blank is red."),
    # signs and names with signs
    ("R&D", "R and D"),
    ("C# and C++", "C sharp and C plus plus"),
    ("#1", "number one"),
    ("#tag", "hash tag"),
    ("~5", "about five"),
    ("and/or", "and or"),
    ("snake_case", "snake underscore case"),
    ("[sic]", "(sic)"),
    ("user@example.com", "user at example dot com"),
    ("see www.example.com.", "see www dot example dot com."),
    ("file.txt", "file dot txt"),
    ("COVID-19", "COVID-nineteen"),
    ("a 3-year-old", "a three-year-old"),
    ("H1N1, B12 and MP3", "H one N one, B twelve and MP three"),
    ("A → B", "A to B"),
    # type and letters
    ("“Hello” — it’s fine…", '"Hello", it\'s fine...'),
    ("this – that", "this, that"),
    ("a café in Łódź", "a café in Lódz"),
    ("ﬁne", "fine"),
    ("soft\u00adware", "software"),
    ("two\n  lines	here", "two lines here"),
    ("", ""),
    # simple LaTeX
    ("$\\frac{1}{2}$", "one half"),
    ("\\frac{3}{4}", "three quarters"),
    ("\\frac{1}{30}", "one over thirty"),
    ("$x^{2}$", "x squared"),
    ("$x^{n+1}$", "x to the n plus one power"),
    ("$\\sqrt{2}$", "the square root of two"),
    ("\\sqrt[3]{27}", "the cube root of twenty-seven"),
    ("$\\sqrt[n]{x}$", "the nth root of x"),
    ("56\\sqrt{15}", "fifty-six times the square root of fifteen"),
    ("$\\sqrt{x+1} + 2$", "the square root of x plus one end root plus two"),
    ("$a \\times b$", "a times b"),
    ("$a \\cdot b$", "a times b"),
    ("$6 \\div 2 \\pm 1$", "six divided by two plus or minus one"),
    ("$\\alpha + \\beta$", "alpha plus beta"),
    ("$\\Delta H = -92\\text{ kJ/mol}$", "delta H equals minus ninety-two kilojoules per mole"),
    ("$x \\leq 5$", "x less than or equal to five"),
    ("$x \\neq y$", "x not equal to y"),
    ("$\\text{if } x > 0$", "if x greater than zero"),
    ("$x_1 + x_{12}$", "x sub one plus x sub twelve"),
    ("$x_{i+1}$", "x sub i plus one"),
    ("$\\sum_{i=1}^{n} i^2$", "the sum from i equals one to n of i squared"),
    ("$\\int_0^1 x\\,dx$", "the integral from zero to one of x dx"),
    (
        "$\\lim_{x \\to 0} \\frac{\\sin x}{x}$",
        "the limit as x approaches zero of the fraction with numerator sine x and denominator x",
    ),
    ("$\\log_3 81$", "log base three of eighty-one"),
    ("$\\ln x$", "natural log of x"),
    ("$90^\\circ$", "ninety degrees"),
    (
        "$\\frac{x+1}{x-1} = 2$",
        "the fraction with numerator x plus one and denominator x minus one end fraction equals two",
    ),
    ("$\\frac{a}{b}$", "a over b"),
    ("$\\frac{\\sqrt{3}}{12}$", "the fraction with numerator the square root of three and denominator twelve"),
    ("$3\\frac{1}{2}$", "three and one half"),
    ("$\\binom{n}{k}$", "n choose k"),
    ("$\\left(\\frac{1}{a}\\right)^4$", "open parenthesis one over a close parenthesis to the power of four"),
    ("$\\{1, 2, 3\\}$", "open brace one, two, three close brace"),
    ("$1 + 2 + \\cdots + n$", "one plus two plus dot dot dot plus n"),
    ("$A \\cup B$", "A union B"),
    ("$x \\in \\mathbb{R}$", "x in the real numbers"),
    ("$\\vec{v}$", "vector v"),
    ("$\\overline{AB}$", "AB bar"),
    ("$|x| < 3$", "the absolute value of x less than three"),
    ("$P(A \\mid B)$", "P of A given B"),
    ("$f'(x)$", "f prime of x"),
    ("$a \\equiv b \\pmod{n}$", "a is congruent to b mod n"),
    ("$p \\Rightarrow q$", "p implies q"),
    ("$60 \\%$", "sixty percent"),
    ("\\(x^2\\)", "x squared"),
    ("$$E = mc^2$$", "E equals mc squared"),
    ("Let $x$ be the number of cats.", "Let x be the number of cats."),
    ("points $(1,2)$ and $(7, 4)$", "points (one, two) and (seven, four)"),
    ("$18$.", "eighteen."),
    ("$5 and $6", "five dollars and six dollars"),
    ("\\$5", "five dollars"),
    ("\\infty", "infinity"),
    # chemistry
    ("CO₂", "C O two"),
    ("NaCl", "N A C L"),
    ("HCl", "H C L"),
    ("Na+", "N A plus"),
    ("Ca2+", "C A two plus"),
    ("Fe3+", "F E three plus"),
    ("Cl-", "C L minus"),
    ("OH-", "O H minus"),
    ("H3O+", "H three O plus"),
    ("NH4+", "N H four plus"),
    ("SO4^2-", "S O four two minus"),
    ("PO4^{3-}", "P O four three minus"),
    ("C6H12O6", "C six H twelve O six"),
    ("CH3COOH", "C H three C O O H"),
    ("Ca(OH)2", "C A open parenthesis O H close parenthesis two"),
    ("(NH4)2SO4", "open parenthesis N H four close parenthesis two S O four"),
    ("CuSO4·5H2O", "C U S O four dot five H two O"),
    ("2H2 + O2 -> 2H2O", "two H two plus O two yields two H two O"),
    ("2H2 + O2 → 2H2O", "two H two plus O two yields two H two O"),
    ("C_{2}H_{6} + 5O_{2} -> 2CO_{2} + 3H_{2}O", "C two H six plus five O two yields two C O two plus three H two O"),
    ("KClO_{3} -> KCl + O_{2}", "K C L O three yields K C L plus O two"),
    (
        "CH4(g) + 2O2(g) → CO2(g) + 2H2O(l)",
        "C H four gas plus two O two gas yields C O two gas plus two H two O liquid",
    ),
    ("N2 + 3H2 ⇌ 2NH3", "N two plus three H two in equilibrium with two N H three"),
    ("NaCl(aq)", "N A C L aqueous"),
    ("C-14", "carbon fourteen"),
    ("U-235", "uranium two thirty-five"),
    ("^{14}C", "carbon fourteen"),
    ("¹⁴C", "carbon fourteen"),
    ("^{235}_{92}U", "uranium two thirty-five, atomic number ninety-two"),
    ("carbon-14", "carbon-fourteen"),
    ("1s2 2s2 2p6", "one s two, two s two, two p six"),
    ("vitamin B12", "vitamin B twelve"),
    ("O2 and N2", "O two and N two"),
    ("pH 7", "pH seven"),
    ("The B-52 and the F-16", "The B-fifty-two and the F-sixteen"),
    ("V₁ and V₂", "V sub one and V sub two"),
    ("H<sub>2</sub>O", "H two O"),
    ("sugar + water -> energy", "sugar plus water to energy"),
    # code, paths and addresses
    ("camelCase()", "camel Case open parenthesis close parenthesis"),
    ("getHTTPResponse", "get HTTP Response"),
    ("x += 1", "x plus equals one"),
    ("x++", "x plus plus"),
    ("i = i + 1", "i equals i plus one"),
    ("a == b", "a double equals b"),
    ("a != b", "a not equal to b"),
    ("if (x > 0 && y < 5)", "if (x greater than zero and y less than five)"),
    ("!(a == c)", "not (a double equals c)"),
    ("a || b", "a or b"),
    ("x % 2", "x mod two"),
    ("0x1F", "zero x one F"),
    ("#FF0000", "hash F F zero zero zero zero"),
    ("/usr/local/bin", "slash usr slash local slash bin"),
    ("~/.bashrc", "tilde slash dot bashrc"),
    ("C:\\Users\\me\\file.txt", "C colon backslash Users backslash me backslash file dot txt"),
    ("main.py", "main dot py"),
    ("foo.bar()", "foo dot bar open parenthesis close parenthesis"),
    ("arr[0]", "arr open bracket zero close bracket"),
    ('print("hello")', 'print("hello")'),
    ("192.168.0.1", "one hundred ninety-two dot one hundred sixty-eight dot zero dot one"),
    (
        "https://example.com/a_b?c=1",
        "https colon slash slash example dot com slash a underscore b question mark c equals one",
    ),
    ("bob.smith+spam@mail.co.uk", "bob dot smith plus spam at mail dot co dot uk"),
    ("use `code` here", "use code here"),
    # powers, indices, functions, brackets
    ("2^10", "two to the power of ten"),
    ("2^-3", "two to the power of minus three"),
    ("e^x", "e to the power of x"),
    ("e^{-x}", "e to the power of minus x"),
    ("a_n", "a sub n"),
    ("a_{n+1}", "a sub n plus one"),
    ("x_max", "x sub max"),
    ("v_0", "v sub zero"),
    ("T₁", "T sub one"),
    ("Z_24", "Z sub twenty-four"),
    ("x-1", "x minus one"),
    ("2-x", "two minus x"),
    ("n-1", "n minus one"),
    ("3x-2", "three x minus two"),
    ("2x - 3", "two x minus three"),
    ("1,2, ..., n-1", "one, two, dot dot dot, n minus one"),
    ("1/x", "one over x"),
    ("x/2", "x over two"),
    ("x^2/9", "x squared over nine"),
    ("V = I/R", "V equals I over R"),
    ("∂f/∂x", "partial f over partial x"),
    ("dy/dx", "d y over d x"),
    ("f(x + 1)", "f of x plus one"),
    ("f(x, y)", "f of x, y"),
    ("P(A|B)", "P of A given B"),
    ("f'(x) = 0", "f prime of x equals zero"),
    ("sin(x)", "sine of x"),
    ("sin x", "sine x"),
    ("cos 2x", "cosine two x"),
    ("sin^2 x", "sine squared x"),
    ("log2(8)", "log base two of eight"),
    ("log_10 x", "log base ten of x"),
    ("ln(x)", "natural log of x"),
    ("sqrt(2)", "the square root of two"),
    ("O(n log n)", "big O of n log n"),
    ("O(n^2)", "big O of n squared"),
    ("n!", "n factorial"),
    ("5!/3!", "five factorial over three factorial"),
    ("|x - 4|", "the absolute value of x minus four"),
    ("√(x+1)", "the square root of open parenthesis x plus one close parenthesis"),
    (
        "(x+1)(x-2)",
        "open parenthesis x plus one close parenthesis times open parenthesis x minus two close parenthesis",
    ),
    ("(a+b)^2", "open parenthesis a plus b close parenthesis squared"),
    ("3(4+5)", "three times open parenthesis four plus five close parenthesis"),
    (
        "(40 × 12) + (60 × 12) = 1,200",
        "open parenthesis forty times twelve close parenthesis plus open parenthesis sixty times twelve close parenthesis "
        "equals one thousand two hundred",
    ),
    ("(60-12)/6", "open parenthesis sixty minus twelve close parenthesis over six"),
    ("60-12=48", "sixty minus twelve equals forty-eight"),
    ("1/(2*sqrt(2))", "one over open parenthesis two times the square root of two close parenthesis"),
    ("a*(c + d)", "a times open parenthesis c plus d close parenthesis"),
    ("the ratio (a + b) is", "the ratio (a plus b) is"),
    ("(2, 3)", "(two, three)"),
    ("[0, 1]", "open bracket zero, one close bracket"),
    ("35 / ? = 7", "thirty-five over question mark equals seven"),
    ("a ≡ b (mod n)", "a is congruent to b (mod n)"),
    # sets and logic
    ("A ∩ B = ∅", "A intersection B equals the empty set"),
    ("x ∈ A ∪ B", "x in A union B"),
    ("∀x ∈ ℝ", "for all x in the real numbers"),
    ("x → ∞", "x to infinity"),
    ("y ∝ 1/x", "y proportional to one over x"),
    ("3 ≈ π", "three approximately equal to pi"),
    ("∂f", "partial f"),
    ("∑ x_i", "the sum of x sub i"),
    ("∫ f(x) dx", "the integral of f of x dx"),
    ("χ² test", "chi squared test"),
    ("p ∧ q", "p and q"),
    ("¬p", "not p"),
    ("P ⊃ ~Q", "P implies not Q"),
    ("F • L • ~C", "F and L and not C"),
    ("Bc ≡ (Pm ∨ Gm)", "Bc if and only if open parenthesis Pm or Gm close parenthesis"),
    ("(∃x)(Ix ∨ ~Ax)", "(there exists x) open parenthesis Ix or not Ax close parenthesis"),
    ("A ⊃ B, A ∩ B", "A superset of B, A intersection B"),
    ("7 • 11^2 • 13", "seven times eleven squared times thirteen"),
    # more units
    ("4 × 10⁻³ m", "four times ten to the power of minus three meters"),
    ("9.76 × 10^-3 M", "nine point seven six times ten to the power of minus three molar"),
    ("7.2 × 10^5 V/m", "seven point two times ten to the power of five volts per meter"),
    ("0.10 M HCl", "zero point one zero molar H C L"),
    ("180/90 mmHg", "one hundred eighty over ninety millimeters of mercury"),
    ("72/min", "seventy-two per minute"),
    ("467 U/L", "four hundred sixty-seven units per liter"),
    ("5 mg/dL", "five milligrams per deciliter"),
    ("100 micrograms/mL", "one hundred micrograms per milliliter"),
    ("15 kg/m2", "fifteen kilograms per square meter"),
    ("kJ/mol", "kilojoules per mole"),
    ("g/cm^3", "grams per cubic centimeter"),
    ("J/(kg·K)", "joules per kilogram kelvin"),
    ("4.18 J/(kg·K)", "four point one eight joules per kilogram kelvin"),
    ("5 N·m", "five newton meters"),
    ("9.8 m s^-2", "nine point eight meters per second squared"),
    ("3.0 km/h^2", "three point zero kilometers per square hour"),
    ("60 beats/min", "sixty beats per minute"),
    ("5 sq km", "five square kilometers"),
    ("1/2 cm", "one half of a centimeter"),
    ("2 1/2 in", "two and one half inches"),
    ("5 in a row", "five in a row"),
    ("a ½-inch bolt", "a one half-inch bolt"),
    ("2 × 3 cm", "two by three centimeters"),
    ("35°N", "thirty-five degrees north"),
    ("35° 40' N", "thirty-five degrees forty minutes north"),
    ("40°26'46\" N", "forty degrees twenty-six minutes forty-six seconds north"),
    ("5 ft 4 in", "five feet four inches"),
    ("1/80th of it", "one eightieth of it"),
    ("7/100", "seven hundredths"),
    ("16/3", "sixteen over three"),
    # more money
    ("$75-$120", "seventy-five dollars to one hundred twenty dollars"),
    ("$14-20", "fourteen to twenty dollars"),
    ("$3 million-$5 million", "three million dollars to five million dollars"),
    ("US$5", "five US dollars"),
    ("$X", "X dollars"),
    ("C$20", "twenty Canadian dollars"),
    ("£80", "eighty pounds"),
    ("$0.05", "five cents"),
    ("$1,234.56", "one thousand two hundred thirty-four dollars and fifty-six cents"),
    # more dates and numbers
    ("12/25/99", "December twenty-fifth, ninety-nine"),
    ("A.D. 1066", "A.D. ten sixty-six"),
    ("in 1066", "in ten sixty-six"),
    ("after 1500 m", "after one thousand five hundred meters"),
    ("May 5th, 2010", "May fifth, twenty ten"),
    ("10:15-11:30 am", "ten fifteen to eleven thirty a.m."),
    ("1-800-555-1234", "one, eight zero zero, five five five, one two three four"),
    ("(555) 123-4567", "five five five, one two three, four five six seven"),
    ("10-3 = 7", "ten minus three equals seven"),
    ("-5 to 5", "minus five to five"),
    ("0-100%", "zero to one hundred percent"),
    ("1e6", "one times ten to the power of six"),
    ("24/7", "twenty-four seven"),
    ("AT&T", "A T and T"),
    ("3 to 5 km", "three to five kilometers"),
    # layout and type
    ("[he] said", "(he) said"),
    ("the word [sic] here", "the word (sic) here"),
    ("hydrogen [H]", "hydrogen open bracket H close bracket"),
    ("it was _very_ good", "it was very good"),
    ("**bold** text", "bold text"),
    ("Statement 1 | All men are mortal. Statement 2 | No.", "Statement one: All men are mortal. Statement two: No."),
    ("• First item", "First item"),
    ("* one thing", "one thing"),
    ("don`t", "don't"),
    ("(   ) is red", "blank is red"),
    ("&c.", "et cetera."),
    ("5 &lt; 6", "five less than six"),
    ("the fiancÃ©e", "the fiancée"),
    ("the bankÕs loan", "the bank's loan"),
    ("dots . . .", "dots..."),
    # what real rows taught
    ("25ºC", "twenty-five degrees Celsius"),
    ("98° F", "ninety-eight degrees Fahrenheit"),
    ("350ºf/175ºc", "three hundred fifty degrees Fahrenheit slash one hundred seventy-five degrees Celsius"),
    ("1.0 GeV/c^2", "one point zero gigaelectronvolts over c squared"),
    ("E(X + Y) = 99", "E of X plus Y equals ninety-nine"),
    ("f(2N) = 3", "f of two N equals three"),
    ("T: V -> W", "T: V to W"),
    ("(∃x)(Px • Sxj)", "(there exists x)(Px and Sxj)"),
    ("(L • H) ≡ I", "open parenthesis L and H close parenthesis if and only if I"),
    ("1 - 3 mM", "one to three millimolar"),
    ("1945 - 1965", "nineteen forty-five to nineteen sixty-five"),
    ("10 - 20 minutes", "ten to twenty minutes"),
    ("children aged 5 – 12.", "children aged five to twelve."),
    (
        "25.00 – 22.30 = 2.70",
        "twenty-five point zero zero minus twenty-two point three zero equals two point seven zero",
    ),
    ("20.8 J mol-1", "twenty point eight joules per mole"),
    ("0.862 x 10^-4 cm-1", "zero point eight six two times ten to the power of minus four per centimeter"),
    ("ClO4–", "C L O four minus"),
    ("CH3•", "C H three radical"),
    ("π → π* excitation", "pi to pi star excitation"),
    ("(-4.79,2.19)", "(minus four point seven nine, two point one nine)"),
    ("0,1,2,3", "zero, one, two, three"),
    ("1,234,567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
    ("of$10,000.", "of ten thousand dollars."),
    ("(60/6)—12=a", "open parenthesis sixty over six close parenthesis minus twelve equals a"),
    ("then |aH| = |Ha|", "then the absolute value of aH equals the absolute value of Ha"),
    (
        "(2+5)x(2+4)",
        "open parenthesis two plus five close parenthesis times open parenthesis two plus four close parenthesis",
    ),
    (
        "(40*40)/(20*30)",
        "open parenthesis forty times forty close parenthesis over open parenthesis twenty times thirty close parenthesis",
    ),
    ("P(A | B) * P(B | C)", "P of A given B times P of B given C"),
    ("d/dx p(x)", "d over d x p of x"),
    ("(y - xe^x)", "(y minus xe to the power of x)"),
    ("32-8i", "thirty-two minus eight i"),
    ("$\\sqrt{x^2-3x-4}$", "the square root of x squared minus three x minus four"),
    ("$5! \\cdot 7!$?", "five factorial times seven factorial?"),
    ("5.0 μU/mL", "five point zero microunits per milliliter"),
    ("6.45 J/(g °C)", "six point four five joules per gram degree Celsius"),
    ("[HNO2] = 2", "open bracket H N O two close bracket equals two"),
    ("a 3256-g boy", "a three thousand two hundred fifty-six gram boy"),
    ("5–7 a.m.", "five to seven a.m."),
    ("9:00 a. m. sharp", "nine a.m. sharp"),
    ("14-15 January 2014", "the fourteenth to the fifteenth of January, twenty fourteen"),
    ("January 14-15, 2014", "January fourteenth to fifteenth, twenty fourteen"),
    ("2500-1500 B.C.", "two thousand five hundred to fifteen hundred B.C."),
    ("600s B.C.E.", "six hundreds B.C.E."),
    ("since 1982 -- after", "since nineteen eighty-two, after"),
    ("5s. 6d. a yard", "five shillings six pence a yard"),
    ("Harare*, Manicaland", "Harare, Manicaland"),
    ("moves.[1] Then", "moves. Then"),
    ("=The Sea Power.=--The British", "The Sea Power. The British"),
    ("and, _e.g._, this", "and, for example, this"),
    ("less-- more", "less, more"),
    ("16-1/3 grains", "sixteen and one third grains"),
    ("December 1st.--We", "December first. We"),
    ('3/4" strips', "three quarters inch strips"),
    ('8 x 13" pan', "eight by thirteen inch pan"),
    ("16″ wreath", "sixteen inch wreath"),
    ('he said "it was 5" and left', 'he said "it was five" and left'),
    ("parent/s", "parent slash s"),
    ("hertz/second.", "hertz per second."),
    ("flour1/2 cup", "flour one half cup"),
    ("area = 6s^2", "area equals six s squared"),
    ("list: * available food * annual rain", "list: available food; annual rain"),
    ("F = mass * acceleration", "F equals mass times acceleration"),
    ("by means of [ritual] food", "by means of (ritual) food"),
    ("A‚Äôs", "A's"),
    # the sign of a number or of a formula
    ("x = - 7", "x equals minus seven"),
    ("(- 2, 4)", "(minus two, four)"),
    ("3 - -2", "three minus minus two"),
    ("-5--3", "minus five minus minus three"),
    ("the inverse of -i", "the inverse of minus i"),
    ("-\\frac{1}{2}", "minus one half"),
    ("-sin(x)", "minus sine of x"),
    ("-(-5)", "minus (minus five)"),
    ("{-1, 0, 1}", "open brace minus one, zero, one close brace"),
    ("e^-x", "e to the power of minus x"),
    ("2^-n", "two to the power of minus n"),
    ("x^(n-1)", "x to the n minus one power"),
    ("y = -|x|", "y equals minus the absolute value of x"),
    ("5 × -3", "five times minus three"),
    ("from -5 to -3", "from minus five to minus three"),
    ("-5 °C", "minus five degrees Celsius"),
    # a hyphen that is a minus
    ("sin x - cos x", "sine x minus cosine x"),
    ("MC = TC - TFC", "MC equals TC minus TFC"),
    ("e^x - cx", "e to the power of x minus cx"),
    ("Assets - Liabilities = Equity", "Assets minus Liabilities equals Equity"),
    # a subtraction, a range, a score, prose
    ("What is 7-3?", "What is seven minus three?"),
    ("2*(7-3)", "two times open parenthesis seven minus three close parenthesis"),
    ("(60-6)-12=a", "open parenthesis sixty minus six close parenthesis minus twelve equals a"),
    ("$5-$3", "five dollars minus three dollars"),
    ("7-3/2", "seven minus three over two"),
    ("(n-1)!", "(n minus one) factorial"),
    ("They won 7-3 in the final.", "They won seven to three in the final."),
    ("a well-known 5-year plan", "a well-known five-year plan"),
    ("1914--1918", "nineteen fourteen to nineteen eighteen"),
    ("the t-test, x-axis and p-value", "the t-test, x-axis and p-value"),
    ("Paris - the city of light - in 5 days", "Paris - the city of light - in five days"),
    # units below a line that is not drawn
    ("5 m s-1", "five meters per second"),
    ("5 kg m-3", "five kilograms per cubic meter"),
    ("mol L-1 s-1", "moles per liter per second"),
    ("5 J mol⁻¹ K⁻¹", "five joules per mole per kelvin"),
    ("9.8 ms-2", "nine point eight meters per second squared"),
    ("0.5 W m-2 K-1", "zero point five watts per square meter per kelvin"),
    ("3.5 × 10-3 m", "three point five times ten to the power of minus three meters"),
    # no number that is not there
    ("well...3 people", "well...three people"),
    ("3...5", "three...five"),
    ("①2 or ②3", "one two or two three"),
    # dates, times, money and units in other notations
    ("1999/03/03", "March third, nineteen ninety-nine"),
    ("3.3.1999", "March third, nineteen ninety-nine"),
    ("24:00", "twenty-four hundred"),
    ("0800 hours", "oh eight hundred hours"),
    ("the 5 W's", "the five W's"),
    ("30 m.p.h. and", "thirty miles per hour and"),
    ("5′ 3″", "five feet three inches"),
    ("€29,99", "twenty-nine euros and ninety-nine cents"),
    ("5 €", "five euros"),
    # Roman numerals
    ("World War I", "World War one"),
    ("Type I and Type II errors", "Type one and Type two errors"),
    ("Photosystem II", "Photosystem two"),
    ("Class III", "Class three"),
    ("Group IV", "Group four"),
    ("John Paul II", "John Paul the second"),
    ("King Charles I was executed.", "King Charles the first was executed."),
    ("I, II, and III", "one, two, and three"),
    ("Only I and III", "Only one and three"),
    ("the work I like", "the work I like"),
    ("Malcolm X and Vitamin K", "Malcolm X and Vitamin K"),
    ("the IV drip", "the I V drip"),
    ("Only (IV )", "Only (four)"),
    ("SMITS (KPV LV) 24", "SMITS (KPV LV) twenty-four"),
    # what was wrong in what this changed
    ("two 14 oz. cans of milk", "two fourteen ounce cans of milk"),
    ("1,000 mg's of it", "one thousand milligrams of it"),
    ("HPO42- and SO42-", "H P O four two minus and S O four two minus"),
    ("4 + 23 H+(aq)", "four plus twenty-three H plus aqueous"),
    ("+1hr, then", "plus one hour, then"),
    ("4 micrograms/kg/min", "four micrograms per kilogram per minute"),
    ("a 10 µF capacitor", "a ten microfarad capacitor"),
    ("A 10-Ω resistor", "A ten ohm resistor"),
    ("25 mg/d", "twenty-five milligrams per day"),
    ("f(x) = -x^2", "f of x equals minus x squared"),
    ("π - 3", "pi minus three"),
    ("Δx - Δy", "delta x minus delta y"),
    ("-ΔG", "minus delta G"),
    ("v = <-1, 2>", "v equals open angle bracket minus one, two close angle bracket"),
    ("0.1 M s-1", "zero point one molar per second"),
    ("s⁻¹", "per second"),
    ("µg/mL", "micrograms per milliliter"),
    ("area (cm2)", "area (square centimeters)"),
    (
        "FAX: [34] (93) 280-61-75",
        "FAX: open bracket thirty-four close bracket (ninety-three) two eight zero, six one, seven five",
    ),
    ("call 1-800-1021-6422", "call one, eight zero zero, one zero two one, six four two two"),
    ("a child………30,000 cowries", "a child.........thirty thousand cowries"),
    ("(0.5,100) and 2.5,100", "(zero point five, one hundred) and two point five, one hundred"),
    ("try the 5-4-3-2-1 exercise", "try the five-four-three-two-one exercise"),
    ("a count of 340/mm3 , with", "a count of three hundred forty per cubic millimeter, with"),
    ("60 mL/min/1.73 m2", "sixty milliliters per minute per one point seven three square meters"),
    ("the 1ST and 2ND", "the first and second"),
    ("2001-02", "two thousand one to oh two"),
    ("a 1999 study (b. 1950)", "a nineteen ninety-nine study (b. nineteen fifty)"),
    ("What did Charles I do?", "What did Charles the first do?"),
    ("-(x-1)/2", "minus open parenthesis x minus one close parenthesis over two"),
    ("lim x → -∞", "the limit x to minus infinity"),
    ("A - {1}", "A minus open brace one close brace"),
    ("___ - 5 = 3", "blank minus five equals three"),
    ("5-___=3", "five minus blank equals three"),
    ("½ - ¼", "one half minus one quarter"),
    ("1/2-1/3", "one half minus one third"),
    ("a 1/4-1/2 cup", "a one quarter to one half cup"),
    ("n! - 1", "n factorial minus one"),
    ("10- 3", "ten minus three"),
    ("the Boeing 747-400", "the Boeing seven hundred forty-seven-four hundred"),
    ("L^2M/T^2", "L squared M over T squared"),
    # years
    ("The War of 1812", "The War of eighteen twelve"),
    ("It was 1984.", "It was nineteen eighty-four."),
    ("published 1905", "published nineteen oh five"),
    ("It was 1984 people.", "It was one thousand nine hundred eighty-four people."),
]


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_table(written: str, spoken: str) -> None:
    assert to_spoken(written) == spoken


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_its_own_results_stay_as_they_are(written: str, spoken: str) -> None:
    assert to_spoken(spoken) == spoken


_CODE = "def f(x):\n    y = x + 1\n    return y\n\nprint(f(2))"
_TABLE = "a | b | c\n1 | 2 | 3"
_DEEP = r"$\sqrt{\frac{\sqrt{\frac{1}{\sqrt{2}}}}{3}}$"

REFUSED = [
    # what is written, the kind that is counted, what the reason names
    ("日本", "script", "Cjk script"),
    ("привет", "script", "Cyrillic script"),
    ("٣", "script", "Arabic-indic script"),
    ("Δελφοί", "script", "Greek script"),
    ("the λόγος of", "script", "Greek script"),
    ("well done 👍", "symbol", "THUMBS UP"),
    ("schwa ə", "symbol", "U+0259"),
    ("a\0b", "symbol", "U+0000"),
    ("5\x80 later", "garbled", "U+0080"),
    ("what \ufffd this", "garbled", "U+FFFD"),
    ("private \ue000 use", "garbled", "U+E000"),
    ("<b>bold</b>", "markup", "<b>"),
    ('<a href="x">y</a>', "markup", "<a href"),
    (r"$\unknown{x}$", "markup", "unknown"),
    (r"\frac{1", "markup", "not closed"),
    (r"\frac", "markup", "without its argument"),
    (r"see \frac here", "markup", "without its argument"),
    (r"\begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix}", "layout", "LaTeX environment"),
    (_TABLE, "layout", "table"),
    ("a | b | c | d | e", "layout", "row of a table"),
    ("name\tage\tcity\nAnn\t5\tRome", "layout", "table"),
    (_CODE, "code", "block of code"),
    ("for (i = 0; i < n; i++) {\n  sum += i;\n}\nreturn sum;", "code", "block of code"),
    ("look: <>{}[]|/", "symbols", "signs in a row"),
    ("==========", "symbols", "signs in a row"),
    ("/\\_/\\ ( o.o ) > ^ < /|_|\\ " * 4, "symbols", "characters are signs"),
    (_DEEP, "complexity", "levels of LaTeX"),
    (" + ".join(map(str, range(100, 140))), "complexity", "operators"),
    (
        "((((((a + b) * c) - d) / e) + f) = g + h + i + j + k + l + m + n + o + p + q + r + s + t + u",
        "complexity",
        "deep",
    ),
    ("the 1234567890123456th", "complexity", "ordinal of 16 digits"),
    ("the 2st of them", "unclear", "'2st'"),
    ("3th", "unclear", "'3th'"),
    ("It went 7-3 there.", "unclear", "a range or a subtraction"),
    ("What is 7-1/2?", "unclear", "a mixed number or a subtraction"),
    ("240 × 10-6 m", "unclear", "a power of ten or a subtraction"),
    ("€1.234", "unclear", "thousands or a decimal fraction"),
    ("!", "silent", "nothing to say"),
    (" ?! ", "silent", "nothing to say"),
    ("...", "silent", "nothing to say"),
]


@pytest.mark.parametrize(("written", "kind", "cause"), REFUSED)
def test_what_cannot_be_read_aloud_is_refused_by_kind_and_by_name(written: str, kind: str, cause: str) -> None:
    with pytest.raises(Unspeakable, match=re.escape(cause)) as caught:
        to_spoken(written)
    assert caught.value.kind == kind


def test_the_table_of_refusals_has_every_kind_but_the_last_guard() -> None:
    assert {kind for _, kind, _ in REFUSED} == set(REJECTS) - {"lost"}


@pytest.mark.parametrize(
    "written",
    [
        "____ and ____________ are blanks",
        "dots . . . . . . . . and dashes ----------",
        "x = 1; y = 2",  # two statements are not a block
        "He said so;\nshe said no;\nthey left;\nI stayed here with all of them;",
        "for all who came\nwhile it lasted\nif you will",
        "P(A|B) = P(B|A) P(A) / P(B)",
        "αβ and βγ rays",
        "a || b && c",
        "C:\\new\\text.txt",
    ],
)
def test_what_is_near_a_limit_is_still_spoken(written: str) -> None:
    assert to_spoken(written)


def test_unspeakable_is_an_error_the_package_explains() -> None:
    assert issubclass(Unspeakable, SaladError)


def test_rules_have_names_of_their_own() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) > 90


def test_a_rule_is_not_kept_from_a_text_by_its_needs() -> None:
    """``needs`` only saves time: no rule has anything to say about a case of the table that lacks all it needs."""
    for written, _ in CASES:
        for rule in RULES:
            if rule.needs and rule.needs.isdisjoint(written):
                assert rule(written) == written, (rule.name, written)


_WORDS = st.sampled_from(
    ["the", "cat", "sat", "on", "a", "mat", "and", "it", "was", "red", "I", "went", "home", "friend's", "well-known"]
)


@given(st.lists(_WORDS, min_size=1, max_size=12), st.sampled_from(".?!"), st.sampled_from([" ", "  ", "\n", ", "]))
def test_plain_english_is_unchanged_but_for_whitespace(words: list[str], end: str, between: str) -> None:
    text = between.join(words) + end
    assert to_spoken(text) == " ".join(text.split())


_PIECES = [
    *"aAxXskmK2519/%$£°²₂⁻^_{}()[]+=<>&#~*'\"½πΔΩ.,:;!?-–—@|\\•→′éř…\n ",
    "B. ", "St.", "Dr. ", "No. ", "e.g.", "etc.", "p.m.", " pm", "in ", "the ", "of May ", "May ", "July ", "km", "--",
    " - ", "10", "1905", "1914", "2003", "007", "1,234", "3.14", ".5", "th", "1st", "__", "million", "between ", "and ",
    "to ", "vs", "w/", "II", "War ", "Henry ", "12:30", "x_", "^{", "²⁺", "www.", "a.b",
]  # fmt: skip


_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join) | st.text(max_size=12)


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
@example("St.St.St.")
@example("5--3")
@example("0ÒA")
@example("sÕ=aÓ1")
def test_any_text_is_spoken_or_refused_and_then_at_rest(text: str) -> None:
    try:
        spoken = to_spoken(text)
    except Unspeakable:
        return
    assert to_spoken(spoken) == spoken
    assert all(c.isalpha() or c in ".,;:?!'\"()- " for c in spoken)


# --- the account -----------------------------------------------------------------------------------------------------

SILENT_CLASSES = {
    "blank", "punctuation", "no width", "markup", "encoding", "bullet", "layout", "emphasis", "brackets", "note mark",
}  # fmt: skip


def check_account(text: str) -> Counter[str]:
    """Every character of ``text`` is in one span, in order, and is heard or belongs to a class that may be silent."""
    spans = spoken_spans(text)
    assert "".join(span.written for span in spans) == text
    assert "".join(span.spoken for span in spans) == to_spoken(text)
    for span in spans:
        heard = any(map(str.isalpha, span.spoken))
        assert heard != bool(span.silent), span
        assert span.silent in SILENT_CLASSES | {""}, span
        if span.silent == "punctuation":
            assert all(c in PUNCTUATION or c in NO_WIDTH or c.isspace() for c in span.written), span
        if not span.rules and not span.silent:
            assert span.written == span.spoken
    return Counter(span.silent for span in spans)


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_the_table_accounts_for_every_character(written: str, spoken: str) -> None:
    check_account(written)


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_any_spoken_text_accounts_for_every_character(text: str) -> None:
    with contextlib.suppress(Unspeakable):
        check_account(text)


def test_the_account_says_which_rule_said_what() -> None:
    spans = spoken_spans("The ____ costs $5 **now**.")
    assert [(s.written, s.spoken, s.silent, s.rules) for s in spans] == [
        ("The", "The", "", ()),
        (" ", " ", "blank", ()),
        ("____", "blank", "", ("blank",)),
        (" ", " ", "blank", ()),
        ("costs", "costs", "", ()),
        (" ", " ", "blank", ()),
        ("$5", "five dollars", "", ("money",)),
        (" ", " ", "blank", ()),
        ("**now**", "now", "", ("bold",)),
        (".", ".", "punctuation", ()),
    ]


def test_a_rule_that_would_lose_something_is_stopped() -> None:
    forgetful = Rule("forgetful", re.compile("@+"), frozenset("@"), lambda match: "")
    with pytest.raises(Unspeakable, match="forgetful") as caught:
        forgetful("a @ b")
    assert caught.value.kind == "lost"
    assert forgetful("no sign") == "no sign"


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_nothing_is_lost_of_real_rows(source: str) -> None:
    """Of up to 200 texts a source, spread evenly; `python -m tests.speed.bench_speakable` takes all."""
    texts = [text for row in rows(SHARED_DATA, source) for text in row.texts]
    if not texts:
        pytest.skip(f"no rows of {source} under {SHARED_DATA}; SALAD_SHARED_DATA names a folder with them")
    chosen = texts[:: max(1, len(texts) // 200)]
    refused = 0
    for text in chosen:
        try:
            check_account(text[:400])
        except Unspeakable:
            refused += 1
    assert refused <= 0.02 * len(chosen)


# Marks that only shape the melody, marks without width and the shapes of them may go or change, and so may a bar that parts
# two phrases; all else leaves a word.
def _may_go(character: str) -> bool:
    silent = PUNCTUATION | NO_WIDTH
    return (
        character == "|"
        or character.isspace()
        or character in silent
        or set(unicodedata.normalize("NFKC", character)) <= silent | {" "}
    )


@settings(max_examples=400, deadline=None)
@given(st.characters(codec="utf-8"))
@example("/")
@example("°")
@example("_")
@example("*")
def test_no_character_is_dropped(character: str) -> None:
    """Between two words, whatever has ink is heard: the text is longer by something other than punctuation."""
    if _may_go(character):
        return
    try:
        spoken = to_spoken(f"cat {character} dog")
    except Unspeakable:
        return
    said = spoken.removeprefix("cat").removesuffix("dog")
    assert any(c.isalpha() for c in said), (character, spoken)


HOSTILE = [
    "1", "1,", "1.", "-", " - ", "1/", "5 km ", "in 1905 ", "$1", "^{", "<a ", "a@", "_", "St. ", "(", "(a+", "\\frac{", "$x", "*a", "[a ",
    "H2", "a_", "`a ", "|a", "I. ", "II ", "I, ", "i) ", "(I) x\n", "XI ", "Charles V ", "(n)!",
    "1-", "--1", "1 – ", "7-3 ", "5 g-2 g ", "1 $ ",
    "mol-1 ", "W m-2 ", "1'", "1905, ", "1,000", "€1.", "1:", "a = b - ", "-x", "x 10-3 ", "3.5 × 10-3 ", "e- ", "①", "&amp", "a  ", "\n",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_rule_is_more_than_linear_in_a_hostile_repetition(unit: str) -> None:
    """Of each rule that takes long at all, four times the text takes at most twice four times the CPU time."""

    def seconds(rule: Rewriter, n: int, tries: int) -> float:
        text, times = (unit * n)[:n], []
        for _ in range(tries):
            began = time.process_time()
            with contextlib.suppress(Unspeakable):
                rule(text)
            times.append(time.process_time() - began)
        return min(times)

    slow = [rule for rule in (*symbols.forms, *RULES, *symbols.tidy) if seconds(rule, 4_000, 1) > 0.1]
    for rule in slow:
        assert seconds(rule, 16_000, 2) < 8 * seconds(rule, 4_000, 2), rule.name


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_is_spoken_or_refused(unit: str) -> None:
    with contextlib.suppress(Unspeakable):
        assert to_spoken(f"a {(unit * 2_000)[:2_000]}")
