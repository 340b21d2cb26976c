r"""A small parser: one expression in LaTeX or plain notation to a tree that can be evaluated.

What it does not know (sums, integrals, dots) raises Unparsed and goes to a worker. Bounded: length,
nesting, digits. One real record: `\frac{x+2}{7}` is div(add(x, 2), 7).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_LENGTH = 2_000
"""Characters of one answer that are parsed."""
MAX_DEPTH = 40
MAX_DIGITS = 2_000


class LimitExceeded(Exception):
    """The text is beyond the bounds of what is parsed at all."""


class ParseError(Exception):
    """The text is not an expression this parser knows."""


class Node(NamedTuple):
    """One node of an expression: a number, a symbol (with its name), or an operation."""

    op: str
    args: tuple[Node, ...] = ()
    value: Fraction | None = None
    name: str = ""


GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "varrho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "hbar",
        "ell",
        "partial",
        "nabla",
        "odot",
    ]
)
FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "lg",
        "exp",
        "abs",
        "floor",
        "ceil",
        "max",
        "min",
        "gcd",
        "lcm",
        "sgn",
        "asin",
        "acos",
        "atan",
    ]
)
_PLAIN = frozenset(["sqrt", "pi", "infty", "infinity", "inf", "oo"]) | FUNCTIONS
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+|\.(?=\s*[/*]))?|\.\d+)|(?P<command>\\[a-zA-Z]+|\\.)|(?P<word>[a-zA-Z]+)"
    r"|(?P<text>§\d+§)|(?P<space>\s+)|(?P<char>.)",
    re.DOTALL,
)
_WORD = re.compile("|".join(sorted(_PLAIN, key=len, reverse=True)))
_TIMES = ("\\cdot", "\\times", "*", "\\ast")
_CLOSE = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}


def number(value: int | Fraction) -> Node:
    """A number as a tree."""
    return Node("num", value=Fraction(value))


def parse(text: str) -> Node:
    """The tree of one expression. Raises Unparsed."""
    if len(text) > MAX_LENGTH:
        raise LimitExceeded("too long")
    tree = _Parser(_tokens(text)).whole()
    return tree


def symbols(node: Node) -> frozenset[str]:
    """Names of the free symbols of an expression."""
    if node.op == "sym":
        return frozenset((node.name,))
    return frozenset().union(*(symbols(arg) for arg in node.args))


def renamed(node: Node, names: dict[str, str]) -> Node:
    """The expression with some of its symbols and operations under other names."""
    args = tuple(renamed(arg, names) for arg in node.args)
    if node.op == "sym":
        return node._replace(name=names.get(node.name, node.name))
    return node._replace(op=names.get(node.op, node.op), args=args)


def operations(node: Node) -> frozenset[str]:
    """Names of all operations in an expression."""
    return frozenset((node.op,)).union(*(operations(arg) for arg in node.args))


def _tokens(text: str) -> list[str]:
    """Tokens without spaces; runs of letters are cut into known names and single letters."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        token, kind = match.group(), match.lastgroup
        if kind == "space":
            continue
        if kind == "number" and len(token) > MAX_DIGITS:
            raise LimitExceeded("too many digits")
        found.extend(_letters(token) if kind == "word" else [token])
    return found


def _letters(word: str) -> list[str]:
    found, position = [], 0
    while position < len(word):
        known = _WORD.match(word, position)
        token = known.group() if known else word[position]
        found.append("\\" + token if known else token)
        position += len(token)
    return found


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def whole(self) -> Node:
        """The tree of all tokens."""
        tree = self.sum()
        if self.position < len(self.tokens):
            raise ParseError(f"left over: {self.peek()}")
        return tree

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def next(self) -> str:
        """Take the next token."""
        token = self.peek()
        if not token:
            raise ParseError("ends early")
        self.position += 1
        return token

    def take(self, *wanted: str) -> bool:
        """Take the next token if it is one of these."""
        if self.peek() in wanted and self.peek():
            self.position += 1
            return True
        return False

    def expect(self, token: str) -> None:
        """Take this token or fail."""
        if not self.take(token):
            raise ParseError(f"expected {token}, got {self.peek()}")

    def sum(self) -> Node:
        """term (+|- term)*"""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise LimitExceeded("too deep")
        tree = self.term()
        while self.peek() in ("+", "-"):
            sign = self.next()
            tree = Node("add" if sign == "+" else "sub", (tree, self.term()))
        self.depth -= 1
        return tree

    def term(self) -> Node:
        """factor (* factor | / factor | factor)*, with a sign before it."""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.next() == "-"
        tree = self.factor()
        while True:
            if self.take(*_TIMES):
                tree = Node("mul", (tree, self.signed()))
            elif self.take("/", "\\div", ":"):
                tree = Node("div", (tree, self.signed()))
            elif self.take("\\bmod", "\\mod"):
                tree = Node("mod", (tree, self.signed()))
            elif self.starts_factor():
                tree = self.beside(tree)
            else:
                return Node("neg", (tree,)) if negative else tree

    def signed(self) -> Node:
        """A factor that may carry its own sign: 2 \\cdot -3."""
        if self.take("-"):
            return Node("neg", (self.factor(),))
        self.take("+")
        return self.factor()

    def starts_factor(self) -> bool:
        """Whether the next token can be multiplied to what came before."""
        token = self.peek()
        if not token or token in ("+", "-", ")", "]", "}", "\\}", "|", "\\rfloor", "\\rceil"):
            return False
        if _is_number(token):
            return self.tokens[self.position - 1] in (")", "}") or self._after_power()
        return token[0].isalpha() or token in ("(", "[", "{") or token[0] in "\\§"

    def _after_power(self) -> bool:
        return self.position >= 2 and self.tokens[self.position - 2] == "^"

    def beside(self, left: Node) -> Node:
        """left factor: a product, or a mixed number such as 2\\frac58."""
        before = self.tokens[self.position - 1]
        is_frac = self.peek() == "\\frac"
        right = self.factor()
        if is_frac and left.op == "num" and before.isdigit() and _is_proper(right):
            return Node("add", (left, right))
        return Node("mul", (left, right))

    def factor(self) -> Node:
        """base with its powers, factorials and degree signs."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise LimitExceeded("too deep")
        tree = self.base()
        while self.peek() in ("^", "!", "\\%", "%", "'"):
            mark = self.next()
            if mark == "^":
                tree = self.power(tree)
            elif mark == "!":
                tree = Node("factorial", (tree,))
            elif mark == "'" and tree.op == "sym":
                tree = tree._replace(name=tree.name + "'")
            else:
                tree = Node("div", (tree, number(100)))
        self.depth -= 1
        return tree

    def power(self, base: Node) -> Node:
        """base ^ exponent; a circle means degrees."""
        if self.circle():
            return Node("mul", (base, Node("div", (Node("pi"), number(180)))))
        exponent = Node("neg", (self.factor(),)) if self.take("-") else self.exponent(base)
        if base.op == "sym" and self.take("_"):
            base = base._replace(name=f"{base.name}_{self.subscript()}")
        return Node("pow", (base, exponent))

    def exponent(self, base: Node) -> Node:
        """What stands above; in v^2_0 only the digit does, the subscript is the base's."""
        after = self.tokens[self.position + 1 : self.position + 2]
        return self.base() if base.op == "sym" and after == ["_"] else self.factor()

    def circle(self) -> bool:
        """Take a degree sign."""
        start = self.position
        braced = self.take("{")
        if self.take("\\circ") and (not braced or self.take("}")):
            return True
        self.position = start
        return False

    def group(self, opening: str) -> Node:
        """What stands between brackets."""
        tree = self.sum()
        self.expect(_CLOSE[opening])
        return tree

    def argument(self) -> Node:
        """One TeX argument: a group, one digit, or one token."""
        token = self.peek()
        if self.take("{"):
            return self.group("{")
        if token and token.isdigit() and len(token) > 1:
            self.tokens[self.position : self.position + 1] = list(token)
        return self.base()

    def base(self) -> Node:
        """A number, symbol, bracket or function."""
        token = self.next()
        if _is_number(token):
            return Node("num", value=Fraction(token))
        if token in ("(", "[", "{", "\\{"):
            return self.group(token)
        if token == "|":
            tree = self.sum()
            self.expect("|")
            return Node("abs", (tree,))
        if token[0].isalpha() or token[0] == "§":
            return self.symbol(token)
        if token[0] == "\\" and len(token) > 1:
            return self.command(token[1:])
        raise ParseError(f"unknown: {token}")

    def symbol(self, name: str) -> Node:
        """A symbol with its subscript; e, i and pi are constants, C(n, k) and C_n^k binomials."""
        if name == "C" and (chosen := self.chosen()) is not None:
            return chosen
        if self.peek() != "_":
            return Node(name) if name in ("e", "i") else Node("sym", name=name)
        self.next()
        return Node("sym", name=f"{name}_{self.subscript()}")

    def chosen(self) -> Node | None:
        """What C(5,2), C_5^2 and C_{5}^{2} stand for; None where C is a symbol."""
        ahead = [t for t in self.tokens[self.position : self.position + 9] if t not in "{}"]
        marks = {"(": ",", "_": "^"}
        if len(ahead) < 4 or marks.get(ahead[0]) != ahead[2]:
            return None
        if not (ahead[1].isdecimal() and ahead[3].isdecimal()):
            return None
        if ahead[0] == "(" and ahead[4:5] != [")"]:
            return None
        closing = self.tokens.index(ahead[3], self.tokens.index(ahead[2], self.position))
        self.position = closing + 1
        self.take("}", ")")
        return Node("binom", (number(int(ahead[1])), number(int(ahead[3]))))

    def subscript(self) -> str:
        """A subscript as text."""
        if not self.take("{"):
            return self.next()
        parts, depth = [], 1
        while depth:
            token = self.next()
            depth += (token == "{") - (token == "}")
            parts.append(token)
        return "".join(part for part in parts[:-1] if part not in ("\\text", "{", "}", ","))

    def command(self, name: str) -> Node:
        """A TeX command."""
        if name == "frac":
            return Node("div", (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name == "binom":
            return Node("binom", (self.argument(), self.argument()))
        if name in ("pi", "infty", "infinity", "inf", "oo"):
            return Node("pi" if name == "pi" else "inf")
        if name in ("lfloor", "lceil"):
            return Node("floor" if name == "lfloor" else "ceil", (self.group("\\" + name),))
        if name in ("lvert", "vert"):
            tree = self.sum()
            self.expect("\\rvert" if name == "lvert" else "\\vert")
            return Node("abs", (tree,))
        if name in FUNCTIONS:
            return self.function(name)
        if name in GREEK:
            return self.symbol("\\" + name)
        raise ParseError(f"unknown: \\{name}")

    def root(self) -> Node:
        """\\sqrt{x} and \\sqrt[n]{x}."""
        degree: Node | None = None
        if self.take("["):
            degree = self.group("[")
        inner = self.base() if self.peek() == "(" else self.argument()
        if degree is None:
            return Node("sqrt", (inner,))
        return Node("root", (inner, degree))

    def function(self, name: str) -> Node:
        """\\sin x, \\sin^2 x, \\log_2 x, \\max(a, b)."""
        base = self.argument() if self.take("_") else None
        power: Node | None = None
        if self.take("^"):
            power = Node("neg", (self.factor(),)) if self.take("-") else self.argument()
        tree = self.call(name, base)
        if power is None:
            return tree
        if power == Node("neg", (number(1),)):
            raise ParseError("inverse function")
        return Node("pow", (tree, power))

    def call(self, name: str, base: Node | None) -> Node:
        """The function on its argument: brackets, or the product that follows."""
        if self.peek() in ("(", "{", "[", "\\{"):
            opening = self.next()
            args = [self.sum()]
            while self.take(","):
                args.append(self.sum())
            self.expect(_CLOSE[opening])
        else:
            args = [self.bare_argument()]
        if base is not None:
            if name != "log":
                raise ParseError(f"subscript of {name}")
            return Node("div", (Node("log", tuple(args)), Node("log", (base,))))
        return Node(name, tuple(args))

    def bare_argument(self) -> Node:
        """What \\sin 2x\\cos y takes: 2x, up to the next function, sign or product mark."""
        tree = Node("neg", (self.factor(),)) if self.take("-") else self.factor()
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() != "(":
            tree = Node("mul", (tree, self.factor()))
        return tree


def _is_number(token: str) -> bool:
    return token[0].isdecimal() or (token[0] == "." and len(token) > 1)


def _is_proper(node: Node) -> bool:
    """Whether a node is a fraction of two positive whole numbers."""
    return node.op == "div" and all(
        arg.value is not None and arg.value.denominator == 1 for arg in node.args
    )
