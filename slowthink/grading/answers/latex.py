r"""Parser of one expression in LaTeX or plain notation to a tree, which `numeric` evaluates.

Sums over a range, integrals, limits and matrices are parsed, but not evaluated: a worker compares
such answers with sympy. Length, nesting and digits are limited. Example: `\frac{x+2}{7}` is
div(add(x, 2), 7).
"""

from __future__ import annotations

import re
from fractions import Fraction

from slowthink.grading.answers import operators
from slowthink.grading.answers.nodes import LimitExceeded, Node, ParseError, number

MAX_LENGTH = 2_000
"""Longest answer that is parsed, in characters."""
MAX_DEPTH = 40
"""Deepest nesting of sums and powers that is parsed."""
MAX_STEPS = 350
"""Most terms and factors of one answer; its tree may be as high, and is read by recursion."""
MAX_DIGITS = 2_000
"""Longest number that is parsed, in digits."""


GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta",
    "vartheta", "iota", "kappa", "lambda", "mu", "nu", "xi", "rho", "varrho", "sigma", "tau",
    "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
    "Sigma", "Upsilon", "Phi", "Psi", "Omega", "hbar", "ell", "partial", "nabla", "odot",
))  # fmt: skip
FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "sinh",
    "cosh", "tanh", "ln", "log", "lg", "exp", "abs", "floor", "ceil", "max", "min", "gcd", "lcm",
    "sgn", "asin", "acos", "atan",
))  # fmt: skip
_INVERSES = {name: "arc" + name for name in ("sin", "cos", "tan", "cot")}
TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
"""Words in a formula, as `normalise` marks them."""
_KNOWN_WORDS = frozenset(["sqrt", "pi", "infty", "infinity", "inf", "oo"]) | FUNCTIONS
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+|\.(?=\s*[/*]))?|\.\d+)|(?P<command>\\[a-zA-Z]+|\\.)|(?P<word>[a-zA-Z]+)"
    r"|(?P<space>\s+)|(?P<char>.)",
    re.DOTALL,
)
_WORD_PIECE = re.compile(f"(?P<known>{'|'.join(sorted(_KNOWN_WORDS, key=len, reverse=True))})|.")
_JOINED_FUNCTION = re.compile(r"\\(sin|cos|tan|cot|sec|csc|ln|log)([a-z])")
_CLOSING_TOKENS = frozenset(
    ("+", "-", ")", "]", "}", "\\}", "|", "\\rfloor", "\\rceil", "\\end", "\\\\", "&")
)
_TIMES_SIGNS = ("\\cdot", "\\times", "*", "\\ast")
_CLOSING_BRACKETS = {
    "(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"
}  # fmt: skip


def parse(text: str) -> Node:
    """Return the tree of one expression. Raises ParseError or LimitExceeded."""
    if len(text) > MAX_LENGTH:
        raise LimitExceeded("too long")
    return Parser(_tokenise(text)).parse()


def _tokenise(text: str) -> list[str]:
    """Return the tokens without spaces; a word is split into function names and letters."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token, kind = match.group(), match.lastgroup
        if kind == "space":
            continue
        if (
            kind == "command"
            and (joined := _JOINED_FUNCTION.fullmatch(token))
            and (token[1:] not in FUNCTIONS)
        ):
            tokens.extend(["\\" + joined.group(1), joined.group(2)])
            continue
        if kind == "number" and len(token) > MAX_DIGITS:
            raise LimitExceeded("too many digits")
        tokens.extend(_split_word(token) if kind == "word" else [token])
    return tokens


def _split_word(word: str) -> list[str]:
    pieces = _WORD_PIECE.finditer(word)
    return ["\\" + piece.group() if piece.lastgroup else piece.group() for piece in pieces]


class Parser:
    """Recursive descent with one token of look-ahead.

    Precedence, from the loosest: sum, term (products, also implicit), factor (powers), base.
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.num_steps = 0
        self.bound: dict[str, str] = {}
        self.in_matrix = False

    def parse(self) -> Node:
        """Return the tree of all tokens."""
        tree = self.sum()
        if self.position < len(self.tokens):
            raise ParseError(f"unexpected token: {self.peek()}")
        return tree

    def nested(self, tokens: list[str], bound: dict[str, str]) -> Parser:
        """Return a parser of these tokens, as deep as this one, with these letters bound."""
        parser = Parser(tokens)
        parser.depth, parser.bound, parser.in_matrix = self.depth, bound, self.in_matrix
        return parser

    def peek(self) -> str:
        """Return the next token without consuming it; empty at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def advance(self) -> str:
        """Consume the next token and return it."""
        token = self.peek()
        if not token:
            raise ParseError("unexpected end")
        self.position += 1
        return token

    def accept(self, *tokens: str) -> bool:
        """Consume the next token if it is one of `tokens`."""
        accepted = self.peek() in tokens
        self.position += accepted
        return accepted

    def expect(self, token: str) -> None:
        """Consume this token. Raises ParseError if the next one is another."""
        if not self.accept(token):
            raise ParseError(f"expected {token}, got {self.peek()}")

    def descend(self) -> None:
        """Count one more level of nesting."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise LimitExceeded("too deep")

    def step(self) -> None:
        """Count one more sum or product."""
        self.num_steps += 1
        if self.num_steps > MAX_STEPS:
            raise LimitExceeded("too many terms")

    def sum(self) -> Node:
        """term (+|- term)*"""
        self.descend()
        tree = self.term()
        while self.peek() in ("+", "-"):
            self.step()
            sign = self.advance()
            tree = Node("add" if sign == "+" else "sub", (tree, self.term()))
        self.depth -= 1
        return tree

    def term(self) -> Node:
        """[+|-] factor (* factor | / factor | mod factor | factor)*"""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.advance() == "-"
        tree = self.factor()
        while True:
            self.step()
            if self.accept(*_TIMES_SIGNS):
                tree = Node("mul", (tree, self.signed_factor()))
            elif self.accept("/", "\\div", ":"):
                tree = Node("div", (tree, self.signed_factor()))
            elif self.accept("\\bmod", "\\mod"):
                tree = Node("mod", (tree, self.signed_factor()))
            elif self.starts_factor():
                tree = self.implicit_product(tree)
            else:
                return Node("neg", (tree,)) if negative else tree

    def signed_factor(self) -> Node:
        """[+|-] factor, as after the sign in 2 \\cdot -3."""
        if self.accept("-"):
            return Node("neg", (self.factor(),))
        self.accept("+")
        return self.factor()

    def starts_factor(self) -> bool:
        """Whether the next token begins a factor of an implicit product."""
        token = self.peek()
        if not token or token in _CLOSING_TOKENS:
            return False
        if _is_number(token):
            is_after_power = self.position >= 2 and self.tokens[self.position - 2] == "^"
            return is_after_power or self.tokens[self.position - 1] in (")", "}", "!")
        return token[0].isalpha() or token in ("(", "[", "{") or token[0] == "\\"

    def implicit_product(self, left: Node) -> Node:
        """left factor: an implicit product, or a mixed number such as 2\\frac58."""
        before = self.tokens[self.position - 1]
        is_frac = self.peek() == "\\frac"
        right = self.factor()
        if is_frac and left.op == "num" and before.isdigit() and _is_integer_fraction(right):
            return Node("add", (left, right))
        return Node("mul", (left, right))

    def factor(self) -> Node:
        """base (^ exponent | ! | % | ')*"""
        self.descend()
        tree = self.base()
        while self.peek() in ("^", "!", "\\%", "%", "'"):
            suffix = self.advance()
            if suffix == "^":
                tree = self.power(tree)
            elif suffix == "!":
                tree = Node("factorial2" if self.accept("!") else "factorial", (tree,))
            elif suffix == "'" and tree.op == "sym":
                tree = tree._replace(name=tree.name + "'")
            else:
                tree = Node("div", (tree, number(100)))
        self.depth -= 1
        return tree

    def power(self, base: Node) -> Node:
        """base ^ exponent; ^\\circ converts degrees to radians."""
        is_index = base.op == "sym" and self.tokens[self.position : self.position + 2] == ["{", "("]
        if is_index and self.tokens[self.position + 3 : self.position + 5] == [")", "}"]:
            raise ParseError("an index in brackets")
        if self.degree_sign():
            return Node("mul", (base, Node("div", (Node("pi"), number(180)))))
        exponent = Node("neg", (self.factor(),)) if self.accept("-") else self.exponent(base)
        if base.op == "sym" and self.accept("_"):
            base = base._replace(name=f"{base.name}_{self.subscript()}")
        return Node("pow", (base, exponent))

    def exponent(self, base: Node) -> Node:
        """factor, but in v^2_0 only the digit: the subscript belongs to the base."""
        after = self.tokens[self.position + 1 : self.position + 2]
        return self.base() if base.op == "sym" and after == ["_"] else self.factor()

    def degree_sign(self) -> bool:
        """Consume a degree sign, \\circ or {\\circ}, if it is next."""
        start = self.position
        braced = self.accept("{")
        if self.accept("\\circ") and (not braced or self.accept("}")):
            return True
        self.position = start
        return False

    def bracketed(self, opening: str) -> Node:
        """sum closing-bracket, after the opening one."""
        tree = self.sum()
        self.expect(_CLOSING_BRACKETS[opening])
        return tree

    def argument(self) -> Node:
        """A TeX argument: a braced group, one digit, or one token."""
        token = self.peek()
        if self.accept("{"):
            return self.bracketed("{")
        if token and token.isdigit() and len(token) > 1:
            self.tokens[self.position : self.position + 1] = list(token)
        return self.base()

    def base(self) -> Node:
        """A number, symbol, bracketed sum, absolute value or command."""
        token = self.advance()
        if _is_number(token):
            return Node("num", value=Fraction(token))
        if token in ("(", "[", "{", "\\{"):
            return self.bracketed(token)
        if token == "|":
            tree = self.sum()
            self.expect("|")
            return Node("abs", (tree,))
        if token[0].isalpha():
            return self.symbol(token)
        if token[0] == "\\" and len(token) > 1:
            return self.command(token[1:])
        raise ParseError(f"unknown token: {token}")

    def symbol(self, name: str) -> Node:
        """A symbol with its subscript; e and i are constants, C(n, k) and C_n^k are binomials."""
        if name in "CA" and (binomial := self.binomial_coefficient()) is not None:
            return (
                binomial
                if name == "C"
                else Node("mul", (binomial, Node("factorial", binomial.args[1:])))
            )
        if name in self.bound:
            return Node("sym", name=self.bound[name])
        if self.peek() != "_":
            return Node(name) if name in ("e", "i") else Node("sym", name=name)
        self.advance()
        return Node("sym", name=f"{name}_{self.subscript()}")

    def binomial_coefficient(self) -> Node | None:
        """Consume what follows C in C(5,2), C_5^2 or C_{5}^{2}; None if C is a symbol."""
        ahead = [t for t in self.tokens[self.position : self.position + 9] if t not in "{}"]
        separators = {"(": ",", "_": "^"}
        if len(ahead) < 4 or separators.get(ahead[0]) != ahead[2]:
            return None
        if not (ahead[1].isdecimal() and ahead[3].isdecimal()):
            return None
        is_call = ahead[0] == "("
        if is_call and (self.tokens[self.position - 1] == "A" or ahead[4:5] != [")"]):
            return None
        closing = self.tokens.index(ahead[3], self.tokens.index(ahead[2], self.position))
        self.position = closing + 1
        self.accept("}", ")")
        return Node("binom", (number(int(ahead[1])), number(int(ahead[3]))))

    def subscript(self) -> str:
        """Consume a subscript and return it as text."""
        if not self.accept("{"):
            return self.advance()
        parts, depth = [], 1
        while depth:
            token = self.advance()
            depth += (token == "{") - (token == "}")
            parts.append(token)
        return "".join(part for part in parts[:-1] if part not in ("\\text", "{", "}", ","))

    def command(self, name: str) -> Node:
        """A TeX command with its arguments."""
        if name in ("frac", "binom"):
            return Node("div" if name == "frac" else name, (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name in ("pi", "infty", "infinity", "inf", "oo"):
            return Node("pi" if name == "pi" else "inf")
        if name in ("lfloor", "lceil"):
            return Node("floor" if name == "lfloor" else "ceil", (self.bracketed("\\" + name),))
        if name in FUNCTIONS:
            return self.function(name)
        if (read := operators.READERS.get(name)) is not None:
            return read(self, name)
        if name in GREEK:
            return self.symbol("\\" + name)
        raise ParseError(f"unknown command: \\{name}")

    def root(self) -> Node:
        """\\sqrt{x} and \\sqrt[n]{x}."""
        degree = self.bracketed("[") if self.accept("[") else None
        inner = self.base() if self.peek() == "(" else self.argument()
        return Node("sqrt", (inner,)) if degree is None else Node("root", (inner, degree))

    def function(self, name: str) -> Node:
        """\\sin x, \\sin^2 x, \\log_2 x, \\max(a, b)."""
        base = self.argument() if self.accept("_") else None
        power: Node | None = None
        if self.accept("^"):
            power = Node("neg", (self.factor(),)) if self.accept("-") else self.argument()
        tree = self.call(name, base)
        if power is None:
            return tree
        if power == Node("neg", (number(1),)):
            if name not in _INVERSES or base is not None:
                raise ParseError("inverse function")
            return Node(_INVERSES[name], tree.args)
        return Node("pow", (tree, power))

    def call(self, name: str, base: Node | None) -> Node:
        """The function of its arguments: in brackets, or the product that follows."""
        if self.peek() in ("(", "{", "[", "\\{"):
            opening = self.advance()
            args = [self.sum()]
            while self.accept(","):
                args.append(self.sum())
            self.expect(_CLOSING_BRACKETS[opening])
        else:
            args = [self.bare_argument()]
        if len(args) == 1 and name in ("max", "min"):
            raise ParseError(f"{name} of one value")
        if base is not None:
            if name != "log":
                raise ParseError(f"subscript of {name}")
            return Node("div", (Node("log", tuple(args)), Node("log", (base,))))
        return Node(name, tuple(args))

    def bare_argument(self) -> Node:
        """The 2x of \\sin 2x\\cos y: factors up to a function, a sign or a bracket."""
        tree = Node("neg", (self.factor(),)) if self.accept("-") else self.factor()
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() != "(":
            tree = Node("mul", (tree, self.factor()))
        return tree


def _is_number(token: str) -> bool:
    return token[0].isdecimal() or (token[0] == "." and len(token) > 1)


def _is_integer_fraction(node: Node) -> bool:
    """Whether a node is a fraction of two integers."""
    return node.op == "div" and all(
        arg.value is not None and arg.value.denominator == 1 for arg in node.args
    )
