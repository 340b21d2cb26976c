r"""Kinds of values out of public reports of other graders, each with equal and unequal pairs.

Two answers are equal only where every token of both is accounted for by the rules: what they leave
over may be the difference. Each pair is (reference answer, prediction).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slowthink.grading import Grader
from slowthink.grading.files import PairRow, pair_from_row
from slowthink.grading.grader import PairItem
from slowthink.records import Verdict

FIELD = Path(__file__).resolve().parents[3] / "shared/data/field/failing.jsonl"
"""Cases out of public reports, in a folder beside the project; never copied into it."""

Pairs = tuple[tuple[str, str], ...]

EQUAL: dict[str, Pairs] = {
    "sequence with dots": (
        (r"1, 2, \ldots, n", "1,2,3,...,n"),
        (r"3, 6, 12, \dots", r"3,6,12,24,\ldots"),
        (r"a_1, a_2, \ldots, a_n", r"a_1,a_2,\dots,a_n"),
        (r"1:3:5:\ldots", r"1:3:5:7:\cdots"),
        (r"0, 2, 4, \ldots, 2n", "0，2，4，……，2n"),
    ),
    "congruence": (
        (r"n \equiv 2 \pmod{3}", r"n\equiv 2 \bmod 3"),
        (r"n \equiv 2 \pmod{3}", "n = 3k+2"),
        (r"n \equiv 2 \pmod{3}", r"n = 3m - 1, m \in \mathbb{Z}"),
        (r"x \equiv 5 \pmod{9}", r"x \equiv -4 \pmod 9"),
        (r"x\equiv 1, 4 \pmod 5", r"x \equiv 4 \text{ or } 1 \pmod 5"),
        (r"a \equiv b \pmod m", r"a\equiv b\ (\mathrm{mod}\ m)"),
        (r"n \equiv 2 \pmod{3}", "n ≡ 2 (mod 3)"),
    ),
    "parity": (
        (r"\text{odd}", "odd"),
        (r"n \text{ odd}", "n is odd"),
        (r"n \text{ is even}", r"\text{all even } n"),
        (r"n \text{ odd}", r"n = 2k+1, k \in \mathbb{Z}"),
        (r"n \ge 3 \text{ odd}", r"n \text{ odd}, n \ge 3"),
        (r"n \ge 3 \text{ odd}", r"\text{odd } n \ge 3"),
        ("n为奇数", "n是奇数"),
        (r"\text{all even } n \ge 4", r"n\geq 4 \text{ and } n \text{ is even}"),
    ),
    "geometric name": (
        (r"\angle ABC", r"\angle CBA"),
        (r"\angle ABC", "∠CBA"),
        (r"\triangle DEF", r"\triangle FED"),
        (r"\triangle DEF", "triangle DEF"),
        (r"\triangle DEF", "△DEF"),
        (r"AB \parallel CD", r"CD \parallel BA"),
        (r"PQ \perp RS", "RS is perpendicular to PQ"),
        ("线段AB", "AB"),
    ),
    "one-sided limit": (
        (r"x \to 2^+", r"x\rightarrow 2^{+}"),
        (r"x \to 0", "x → 0"),
        ("2", r"x \to 2"),
    ),
    "and, or": (
        (r"x<1 \text{ or } x>3", r"x>3 \text{ or } x<1"),
        (r"x<1 \text{ or } x>3", r"(-\infty,1)\cup(3,\infty)"),
        (r"x>1 \text{ and } x<3", "(1,3)"),
        (r"p \land q", r"q \land p"),
        (r"p \lor q", "q or p"),
        (r"\neg(p \land q)", r"\neg p \lor \neg q"),
        ("p ∧ q", r"p \wedge q"),
        (r"x=2 \text{ or } x=7", "x = 2 and x = 7"),
        (r"x>1 \text{ and } y>1", "y>1, x>1"),
    ),
    "implication": (
        (r"p \implies q", r"p \Rightarrow q"),
        (r"p \iff q", r"q \Leftrightarrow p"),
        (r"p \implies q", r"q \Longleftarrow p"),
        ("5", r"3x=15 \implies x=5"),
        ("x=5", r"2x=10 \Rightarrow x=5"),
    ),
    "set algebra": (
        (r"A \setminus B", r"A \backslash B"),
        (r"A \setminus B", r"A \cap \overline{B}"),
        (r"A \setminus B", r"A \cap B^c"),
        (r"(A\cap B)^c", r"A^c \cup B^c"),
        (r"A \cup B", r"B \cup A"),
        (r"A \subseteq B", r"B \supseteq A"),
        ("A⊂B", r"B \supset A"),
        (r"(-\infty,3)\cap(1,\infty)", "(1,3)"),
    ),
    "qualifier": (
        ("f(x)=2x-1", r"f(x)=2x-1 \text{ for all } x \in \mathbb{R}"),
        ("f(x)=2x-1", r"f(x)=2x-1 \text{ for every real number } x"),
        ("f(x)=2x-1", r"f(x)=2x-1 \quad (x \in \mathbb{R})"),
        ("f(x)=2x-1", r"f(x)=2x-1, \forall x \in \mathbb R"),
        ("f(x)=2x-1", r"\forall x\in\mathbb{R},\ f(x)=2x-1"),
        ("f(n)=kn", r"f(n)=kn \text{ for some constant } k"),
        ("f(n)=kn", r"f(n)=kn \text{ where } k \text{ is an arbitrary constant}"),
        ("f(n)=kn", r"f(n) = kn, \text{ where } k \in \mathbb{R}"),
        ("f(n)=kn", "f(n)=kn（k为常数）"),
        ("f(x)=2x-1", "f(x)=2x-1, 其中x为任意实数"),
        ("f(x)=2x-1", "f(x)=2x-1，对任意实数x"),
        (r"y=\sqrt{x},\ x\ge 0", r"y=\sqrt x \quad (x \geq 0)"),
        (r"y=\frac{1}{x}", r"y=\frac1x,\ x \ne 0"),
        (r"y=x^2,\ x\ge 1", r"y = x^2 \text{ for } x \geq 1"),
        (r"y=x^2,\ x\ge 1", r"y = x^2 \text{ where } x \geq 1"),
        (r"x=k\pi", r"x = k\pi \text{ for any integer } k"),
        (r"f(x)=ax+b", r"f(x)=ax+b \text{ for some real constants } a, b"),
    ),
    "connective in Chinese": (
        (r"x=3 \text{ 或 } x=-5", "x=-5或x=3"),
        (r"x=3 \text{ 或 } x=-5", r"x=3 \text{ or } x=-5"),
        (r"x=3 \text{ 或 } x=-5", "-5, 3"),
        (r"(1,0)\text{ 与 }(0,2)", "(0,2),(1,0)"),
        (r"(1,0)\text{ 和 }(0,2)", r"(0,2) \text{ 和 } (1,0)"),
        (r"x \ge 1 \text{ 且 } x \ne 4", r"[1,4)\cup(4,+\infty)"),
        (r"m < -2 \text{ 或 } m > 2", "|m|>2"),
        ("m<-2或m>2", r"m<-2 \text{ 或 } m>2"),
        ("2或5", r"\{2,5\}"),
        ("3和4", "3, 4"),
    ),
    "numeral in Chinese": (
        ("3万元", "30000元"),
        ("2.5亿", "250000000"),
        ("1万2千", "12000"),
        ("四分之三", r"\frac{3}{4}"),
        ("百分之二十", r"20\%"),
        ("负三", "-3"),
        ("五分之二", "0.4"),
        ("三十六", "36"),
        ("一点五", "1.5"),
        ("三又二分之一", "3.5"),
        ("八成", r"80\%"),
        ("两百", "200"),
    ),
    "labelled parts": (
        ("(a) 5, (b) 12", r"(a) 5 \quad (b) 12"),
        ("(a) 5, (b) 12", r"\text{(a) } 5 \quad \text{(b) } 12"),
        ("(a) 5, (b) 12", "(b) 12; (a) 5"),
        ("(a) 5, (b) 12", "5, 12"),
        ("(1) 3 (2) 7 (3) 9", "(1) 3; (2) 7; (3) 9"),
        ("(i) 6 (ii) -1", "(i) 6, (ii) -1"),
        ("（1）8；（2）\\sqrt{5}", "(1) 8 (2) \\sqrt5"),
        ("①2 ②9", "①2；②9"),
        ("Part (a): 4, Part (b): 6", "(a) 4, (b) 6"),
        ("a) 3 b) 8", "(a) 3 (b) 8"),
        ("A: 12, B: 20", "B = 20, A = 12"),
        ("x: 3, y: 8", "x=3, y=8"),
    ),
    "unit with a power": (
        ("30 m²", "30 m^2"),
        ("30 m²", r"30\ \mathrm{m}^{2}"),
        ("30 m²", "30平方米"),
        ("30", r"30\text{ m}^2"),
        ("5 m/s²", r"5\ \mathrm{m/s^2}"),
        ("5 m/s²", r"5 \text{ m s}^{-2}"),
        ("5 m/s²", "5 meters per second squared"),
        ("5 m/s²", "5 m/s^2"),
        ("2 m³", "2 cubic metres"),
        ("2 m^3", "2000000 cm^3"),
        ("7 cm^2", "7 sq cm"),
        ("12 square units", "12"),
        ("1.2 kg/m^3", r"1.2\ \mathrm{kg \cdot m^{-3}}"),
        ("6π cm³", r"6\pi \text{ cm}^3"),
    ),
    "per cent in words": (
        (r"20\%", "20 per cent"),
        (r"20\%", "20 percent"),
        (r"20\%", r"20 \text{ percent}"),
        ("20%", "20％"),
        ("3个百分点", "3 percentage points"),
        ("20%", "20 por ciento"),
        ("20%", "20 Prozent"),
        ("20%", "百分之二十"),
    ),
    "currency after the number": (
        (r"\$5", "5 dollars"),
        (r"\$5", "5 USD"),
        (r"\$5", "5 US dollars"),
        ("5元", "¥5"),
        ("5元", "5 yuan"),
        ("€5", "5 €"),
        ("€5", "5 euros"),
        ("5", "5 EUR"),
        ("£3.50", "3.5 pounds sterling"),
        (r"\$1{,}200", "1200 dollars"),
        ("₹320", "320 rupees"),
        (r"\$2.40", "2 dollars and 40 cents"),
    ),
    "parts in boxes": (
        ("3, 8", r"\boxed{3}, \boxed{8}"),
        ("4, 7", r"$a=\boxed{4}$ and $b=\boxed{7}$"),
        ("x=1, y=2", r"\boxed{x=1}, \boxed{y=2}"),
    ),
    "one name with several values": (
        ("a=4,-8,-10", "4,-8,-10"),
        ("4,-8,-10", "a=4,-8,-10"),
        (r"k = -2, 4 \text{ or } 9", "-2, 4, 9"),
        (r"k = -2, 4 \text{ or } 9", "k=9, k=-2, k=4"),
        (r"x \in \{1, 6\}", "x = 1, 6"),
        ("1, 6", r"x \in \{1, 6\}"),
    ),
    "escaped twice": (
        (r"\frac{5}{9}", r"\\frac{5}{9}"),
        (r"\left(2, \infty\right)", r"\\left(2, \\infty\\right)"),
        (r"\frac{5}{9}", r"\\\\frac{5}{9}"),
        (r"x \ge 2", r"x \\ge 2"),
        (
            r"\begin{pmatrix}1\\2\end{pmatrix}",
            r"\\begin{pmatrix}1\\\\2\\end{pmatrix}",
        ),
    ),
    "date": (
        ("March 14, 2023", "14 March 2023"),
        ("March 14, 2023", "2023-03-14"),
        ("March 14, 2023", "14th of March, 2023"),
        ("2023年3月14日", "2023-03-14"),
        ("5月1日", "May 1"),
        ("May 1", "1 May"),
    ),
    "clock time": (
        ("3:30 p.m.", "15:30"),
        ("3:30 PM", "3.30 pm"),
        ("下午3时30分", "15:30"),
        ("下午3点半", "3:30 PM"),
        ("14:00", "2 p.m."),
        ("上午9点", "9:00"),
    ),
    "duration": (
        ("1小时20分", "80分钟"),
        ("80 minutes", "1 hour 20 minutes"),
        ("80 minutes", "1 h 20 min"),
        ("2 hours 15 minutes", "2.25 hours"),
        ("1 hour 30 seconds", "3630 seconds"),
        ("1 day 2 hours", "26 hours"),
        ("6元5角", "6.5元"),
        ("2米30厘米", "2.3米"),
    ),
    "formula for a worker": (
        (r"\sum_{k=1}^{6} k", "21"),
        (r"\int_0^3 2x\,dx", "9"),
        (r"\lim_{x\to 0}\frac{\sin 3x}{x}", "3"),
        (r"\sum_{i=1}^n i^3", r"\sum_{k=1}^{n} k^3"),
        (r"\begin{vmatrix}2&1\\3&4\end{vmatrix}", "5"),
        (r"3\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}3\\6\end{pmatrix}"),
        (r"\prod_{j=1}^{4} j", "24"),
    ),
}  # fmt: skip

DIFFERENT: dict[str, Pairs] = {
    "sequence with dots": (
        (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1"),
        (r"2, 4, 8, \ldots", r"2, 4, 6, \ldots"),
        (r"1:2:3:\ldots", r"1:4:9:\ldots"),
        (r"1, 2, \ldots, n", r"1, 2, \ldots, n-1"),
        (r"1, 2, \ldots, n", r"0, 1, 2, \ldots, n"),
        (r"1, 2, 3, \ldots", r"1, 2, 3"),
        (r"1, 4, 9, \ldots, n^2", r"1, 8, 27, \ldots, n^3"),
        (r"(1, 3, \ldots, 2n-1)", r"(1, 3, \ldots, 2n+1)"),
        (r"1+2+\cdots+n", r"1+3+\cdots+n"),
        (r"\{2, 4, 6, \ldots\}", r"\{2, 4, 8, \ldots\}"),
    ),
    "congruence": (
        (r"n \equiv 1 \pmod{6}", r"n \equiv 1 \pmod{12}"),
        (r"n \equiv 1 \pmod{6}", r"n \equiv 5 \pmod{6}"),
        (r"x\equiv 1,4 \pmod 5", r"x\equiv 1 \pmod 5"),
        (r"x\equiv 4 \pmod 5", "4"),
        (r"n\equiv 0\pmod 6", r"n \mid 6"),
        (r"n\equiv 2\pmod 3", "n=3k+1"),
        (r"n\equiv 2\pmod 3", r"m\equiv 2\pmod 3"),
        ("5 mod 9", "5 mod 7"),
        (r"a \equiv b \pmod m", r"a \equiv c \pmod m"),
    ),
    "parity": (
        (r"n \ge 3 \text{ odd}", r"n \ge 3 \text{ even}"),
        (r"n \ge 3 \text{ odd}", r"n \ge 3"),
        (r"n \ge 3", r"n \ge 3 \text{ odd}"),
        ("n is odd", "n is even"),
        (r"\text{odd}", r"\text{even}"),
        (r"p \text{ prime}", r"p \text{ composite}"),
        (r"n > 2 \text{ prime}", r"n > 2"),
        ("n为奇数", "n为偶数"),
        (r"\text{all odd integers}", r"\text{all integers}"),
    ),
    "geometric name": (
        (r"\angle ABC", r"\angle ACB"),
        (r"\angle ABC", r"\angle BAC"),
        ("∠AOB", "∠ABO"),
        (r"\triangle ABC", r"\triangle ABD"),
        (r"\angle ABC", r"\triangle ABC"),
        (r"AB \parallel CD", r"AB \perp CD"),
        (r"AB \parallel CD", r"AC \parallel BD"),
        (r"\overrightarrow{AB}", r"\overrightarrow{BA}"),
        (r"\triangle ABC \cong \triangle DEF", r"\triangle ABC \cong \triangle EDF"),
        (r"\angle A", r"\angle B"),
    ),
    "one-sided limit": (
        (r"x \to 2^+", r"x \to 2^-"),
        (r"x \to 2^+", r"x \to 2"),
        (r"x \to 2", r"x \to 3"),
        (r"x \to 0", r"y \to 0"),
        (r"x \to \infty", r"x \to -\infty"),
        ("0^+", "0^-"),
    ),
    "and, or": (
        (r"x<2 \text{ or } x>5", r"x<2 \text{ and } x>5"),
        (r"x>2 \text{ and } y>5", r"x>2 \text{ or } y>5"),
        (r"p \land q", r"p \lor q"),
        ("p ∧ q", "p ∨ q"),
        (r"x=1 \text{ or } y=2", r"x=1 \text{ and } y=2"),
        (r"x=1, y=2", r"x=1 \text{ or } y=2"),
        (r"\neg(p \land q)", r"\neg p \land \neg q"),
        ("a or b", "a and b"),
        ("x>2或y>5", "x>2且y>5"),
        (r"x>3 \text{ or } x<1", r"x>1 \text{ or } x<3"),
        (r"p \lor \neg q", r"\neg p \lor q"),
    ),
    "implication": (
        (r"p \implies q", r"q \implies p"),
        (r"p \Rightarrow q", r"p \Leftarrow q"),
        (r"p \iff q", r"p \implies q"),
        (r"a \to b", r"b \to a"),
        ("p⇒q", "q⇒p"),
        (r"p \implies q", "q"),
        (r"x>2 \implies x>1", r"x>1 \implies x>2"),
    ),
    "set algebra": (
        (r"A \setminus B", r"B \setminus A"),
        (r"A \backslash B", r"A \cap B"),
        (r"A \cup B", r"A \cap B"),
        (r"A \times B", r"B \times A"),
        (r"A \subseteq B", r"B \subseteq A"),
        (r"A \in B", r"B \in A"),
        (r"(A\cup B)^c", r"A^c\cup B^c"),
        (r"A \cup (B \cap C)", r"(A \cup B) \cap C"),
        (r"[0,5]\setminus[2,3]", r"[2,3]\setminus[0,5]"),
        (r"x \in A", r"x \notin A"),
    ),
    "qualifier": (
        ("f(x)=2x-1", r"f(x)=2x+1 \text{ for all } x \in \mathbb{R}"),
        (r"y=x^2,\ x\ge 1", r"y=x^2,\ x\le 1"),
        (r"y=x^2,\ x\ge 1", "y=x^2"),
        (r"y=x^2", r"y=x^2,\ x\ge 1"),
        ("x>0", r"x>0, y\in R"),
        (r"x>0, y \in \mathbb{R}", "x>0"),
        (r"f(x)=cx \text{ for some } c>0", r"f(x)=cx \text{ for some } c<0"),
        (r"f(x)=cx", r"f(x)=cx \text{ for some } c>0"),
        (r"n>2, n \in \mathbb{Z}", "n>2"),
        (r"x = k\pi, k \in \mathbb{Z}", r"x = 2k\pi, k \in \mathbb{Z}"),
        (r"\forall x\, P(x)", r"\exists x\, P(x)"),
        (r"x^2 \ge 0 \text{ for all } x", r"x^2 \ge 0 \text{ for some } x"),
    ),
    "connective in Chinese": (
        (r"x=3 \text{ 或 } x=-5", r"x=3 \text{ 或 } x=5"),
        (r"x>1 \text{ 且 } x \ne 4", r"x>1 \text{ 或 } x \ne 4"),
        ("m<-2或m>2", "-2<m<2"),
        ("2或5", "2"),
        (r"(1,0)\text{ 和 }(0,2)", "(0,1),(2,0)"),
    ),
    "numeral in Chinese": (
        ("3万元", "3000元"),
        ("四分之三", r"\frac{4}{3}"),
        ("三十六", "63"),
        ("负三", "3"),
        ("百分之二十", "2%"),
        ("八成", "8%"),
        ("一点五", "15"),
    ),
    "labelled parts": (
        ("(a) 5, (b) 12", "(a) 12, (b) 5"),
        ("(a) 5, (b) 12", "(a) 5"),
        ("(i) 6 (ii) -1", "(i) -1 (ii) 6"),
        ("①2 ②9", "①9 ②2"),
        ("①2 ②9", "9, 2"),
        ("x: 3, y: 8", "x=8, y=3"),
        ("(a) 5, (b) 12", "(b) 5, (c) 12"),
    ),
    "unit with a power": (
        ("30 m²", "30 m³"),
        ("30 m²", "30 m"),
        ("30 m²", "30 cm²"),
        ("5 m/s²", "5 m/s"),
        ("30 m^2", "900 m"),
        ("1 kg/m^3", "1 g/m^3"),
    ),
    "per cent in words": (
        (r"20\%", "2 percent"),
        ("3 percentage points", "3 ‰"),
        ("0.2", "20"),
        ("5‰", "5%"),
    ),
    "currency after the number": (
        (r"\$5", "5 euros"),
        ("5元", "5 USD"),
        ("75 cents", r"\$75"),
        ("€5", "£5"),
        ("5 USD", "6 USD"),
        ("6元5角", "65元"),
    ),
    "one name with several values": (
        ("a=4,-8,-10", "4,-8,10"),
        ("a=4,-8,-10", "a=4,-8"),
        ("a=4,-8", "b=4,-8"),
        ("a=4, b=-8", "a=-8, b=4"),
        (r"(a,b,c)=(1,2,3)", r"(a,c,b)=(1,2,3)"),
    ),
    "escaped twice": (
        (r"\frac{5}{9}", r"\\frac{9}{5}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\\begin{pmatrix}2\\\\1\\end{pmatrix}"),
    ),
    "date": (
        ("March 14, 2023", "March 15, 2023"),
        ("March 14, 2023", "May 14, 2023"),
        ("2024-02-29", "2024"),
        ("2024-02-29", "1993"),
        ("5月1日", "1月5日"),
        ("May 1", "May 2"),
    ),
    "clock time": (
        ("3:30 p.m.", "3:30 a.m."),
        ("12:20", r"\frac{12}{20}"),
        ("下午2时", "2:00"),
        ("3:30", "3.5"),
    ),
    "duration": (
        ("1小时20分", "70分钟"),
        ("45 seconds", "45 minutes"),
        ("1 hour 20 minutes", "1.2 hours"),
    ),
    "formula for a worker": (
        (r"\sum_{k=1}^{6} k", "20"),
        (r"\lim_{n\to\infty} a_n=0", r"\lim_{n\to 0} a_n=0"),
        (r"\begin{pmatrix}1&0\\0&2\end{pmatrix}", r"\begin{vmatrix}1&0\\0&2\end{vmatrix}"),
        ("7!!", "(7!)!"),
        (r"O(n^2)", r"O(n)"),
        (r"\max S", r"\min S"),
        (r"x^{(2)}", "x^2"),
        (r"\text{rank } 2", r"\text{degree } 2"),
        (r"5 \text{ left}", r"5 \text{ right}"),
        (r"2 \uparrow 3", "6"),
    ),
}  # fmt: skip

ARGUABLE: Pairs = (
    ("0.35", r"0.35\%"),  # the other way round the sign of "what per cent" is left out
    (r"x \equiv 4 \pmod 5", "4"),  # a class of numbers is not one number
    (r"n>2", r"n>2, n \in \mathbb{Z}"),  # nothing in the key says that n is an integer
)
"""Pairs that a reader may call equal; they are not accepted, for the reason beside them."""


def _cases(kinds: dict[str, Pairs]) -> list[object]:
    return [
        pytest.param(*pair, id=f"{kind}: {pair[0]} | {pair[1]}"[:90])
        for kind, pairs in kinds.items()
        for pair in pairs
    ]


def _verdict(grader: Grader, gold: str, pred: str) -> Verdict:
    pair = pair_from_row(PairRow(1, gold, pred)) if "boxed" in pred else PairItem(gold, pred)
    return grader.grade_pairs([pair])[0].grade.verdict


@pytest.mark.parametrize(("gold", "pred"), _cases(EQUAL))
def test_equal_values_of_a_kind_are_correct(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "pred"), _cases(DIFFERENT))
def test_different_values_of_a_kind_are_not_correct(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is not Verdict.CORRECT
    assert _verdict(grader, pred, gold) is not Verdict.CORRECT


@pytest.mark.parametrize(("gold", "pred"), ARGUABLE)
def test_arguable_pairs_are_not_accepted(grader: Grader, gold: str, pred: str) -> None:
    assert _verdict(grader, gold, pred) is Verdict.WRONG


@pytest.mark.shared_data
@pytest.mark.skipif(not FIELD.exists(), reason="no shared data beside the project")
def test_values_of_public_reports_are_graded_right(grader: Grader) -> None:
    rows = [json.loads(line) for line in FIELD.read_text("utf-8").split("\n") if line]
    rows = [row for row in rows if row["kind"].startswith("value:")]
    pairs = [pair_from_row(PairRow(1, row["gold"], None, row["response"])) for row in rows]
    grades = [timed.grade for timed in grader.grade_pairs(pairs)]
    differ = [
        (grade.gold, grade.extracted, grade.method)
        for row, grade in zip(rows, grades, strict=True)
        if (grade.verdict is Verdict.CORRECT) != (row["right"] == "correct")
    ]
    assert differ == []
