r"""Answers that hang or blow up careless graders; none is long, all are of a kind models write."""

from __future__ import annotations

DEEP = 20_000

KILLERS: dict[str, str] = {
    "issue-65-tower": r"\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}",
    "tower-of-nines": "9^{9^{9^{9^{9^9}}}}",
    "tower-bare": "9^9^9^9^9^9",
    "tower-in-sum": "1+2^{3^{4^{5^6}}}",
    "tower-python": "9**9**9**9",
    "tower-letters": "x^{y^{z^{w^{v^{10^{10}}}}}}",
    "huge-exponent": "2^{10000000000}",
    "huge-exponent-mod": r"7^{7^{1000000000}} \pmod{10}",
    "power-of-sum": "(x+y+z+w)^{500}",
    "power-of-power-sum": "((x+1)^{1000}+(y+1)^{1000})^{1000}",
    "factorial": "100000000!",
    "factorial-twice": "(100!)!",
    "factorial-many": "9!!!!!!!!",
    "binomial": r"\binom{100000000}{50000000}",
    "root-of-tower": r"\sqrt{9^{9^{9^9}}}",
    "root-degree": r"\sqrt[1000000000]{2^{999999999}+1}",
    "sum-long": r"\sum_{k=1}^{10^{12}} \frac{1}{k^k}",
    "product-long": r"\prod_{k=1}^{100000000} (k^2+1)",
    "integral-hard": r"\int_0^{\pi} \frac{\sin(x^{x^x})}{\ln(\cos(e^x)+2)} dx",
    "nested-fractions": r"\frac{1}{" * 300 + "x" + "}" * 300,
    "nested-roots": r"\sqrt{1+" * 200 + "x" + "}" * 200,
    "nested-parentheses": "(" * DEEP + "1" + ")" * DEEP,
    "nested-braces": "{" * DEEP + "1" + "}" * DEEP,
    "unbalanced-open": r"\frac{" * 5_000,
    "unbalanced-close": "}" * 50_000,
    "unbalanced-left": r"\left(" * 3_000,
    "megabyte-digits": "7" * 1_000_000,
    "megabyte-letters": "x" * 1_000_000,
    "megabyte-sum": "+".join(["x"] * 300_000),
    "megabyte-spaces": " " * 1_000_000 + "1",
    "megabyte-dollars": "$" * 500_000 + "1",
    "list-long": ",".join(map(str, range(50_000))),
    "list-of-roots": ",".join(rf"\sqrt{{{n}}}+x" for n in range(120)),
    "matrix-huge": r"\begin{pmatrix}"
    + r"\\".join(["&".join(["x"] * 100)] * 100)
    + r"\end{pmatrix}",
    "matrix-power": r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{1000000000}",
    "determinant": r"\det\begin{pmatrix}"
    + r"\\".join(["&".join("abcdefgh")] * 8)
    + r"\end{pmatrix}",
    "control-characters": "\x00\x01\x02\x1b[31m1\x7f\x0c" * 1_000,
    "right-to-left": "\u202e1\u202c" * 2_000,
    "lone-surrogates": "\ud800\udfff1",
    "minus-signs": "-" * 30_000 + "1",
    "percents": "%" * 30_000,
    "carets": "x" + "^" * 3_000 + "2",
    "boxes": r"\boxed{" * 5_000 + "1",
    "boxes-closed": r"\boxed{1}" * 20_000,
    "inverse-trigonometric": r"\arcsin(\arccos(\arctan(\sin(10^{400}))))",
    "unsolvable-inequality": r"x^{x^{x}}+\sin(x)^{x} \ge e^{e^{e^{x}}}",
    "plus-minus": r"\pm".join(["1"] * 60),
    "decimals": "0." + "3" * 100_000,
    "scientific": "1e999999999",
    "and-chain": " and ".join(["x=1"] * 5_000),
    "equation-chain": "=".join(["x+1"] * 20_000),
}
