//! Rewrites expressions, following the engine's grammar and precedence.

use minijinja::Error;

use super::Reader;
use crate::lexer::{Kind, syntax_error};
use crate::operators::{ADD, CONCATENATE, INDEX, MULTIPLY, READ, SLICE};

/// Limit on nested expressions: each level uses stack here and in the engine.
const MAX_DEPTH: usize = 100;

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const CONCATENATION: u8 = 6;
const PRODUCT: u8 = 7;
const POWER: u8 = 8;

/// What kind of expression was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A literal, whose size is bounded by its source.
    Constant,
    /// A filter may follow it directly.
    Operand,
    /// A filter would bind to its last operand only.
    Operators,
}

/// A binary operator.
struct Operator {
    precedence: u8,
    /// Number of its tokens: two for `not in`.
    len: usize,
    /// The filter it becomes.
    filter: Option<&'static str>,
}

impl Reader<'_, '_> {
    /// An expression, optionally with `if` and `else`.
    pub(super) fn expression(&mut self) -> Result<Shape, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let line = self.peek().map_or(self.end_line, |token| token.line);
            return Err(syntax_error(format!("expressions nest deeper than {MAX_DEPTH} levels"), line));
        }
        let mut shape = self.unconditional()?;
        while self.copy_if("if") {
            shape = Shape::Operators;
            self.unconditional()?;
            if self.copy_if("else") {
                self.expression()?;
            }
        }
        self.depth -= 1;
        Ok(shape)
    }

    /// An expression that stops at an `if`.
    pub(super) fn unconditional(&mut self) -> Result<Shape, Error> {
        self.operators(OR)
    }

    /// Operands and the operators between them that bind at least as tightly as `lowest`.
    fn operators(&mut self, lowest: u8) -> Result<Shape, Error> {
        let start = self.out.pieces.len();
        let mut shape = match lowest <= NOT && self.copy_if("not") {
            true => {
                while self.copy_if("not") {}
                self.operators(COMPARISON)?;
                Shape::Operators
            }
            false => self.operand()?,
        };
        let mut is_compared = false;
        while let Some(operator) = self.operator().filter(|operator| operator.precedence >= lowest) {
            if let Some(filter) = operator.filter {
                self.skip();
                self.enclose(start, shape);
                self.out.push(format!("|{filter}("));
                self.operators(operator.precedence + 1)?;
                self.out.push(")");
                shape = Shape::Operand;
                continue;
            }
            let compares = operator.precedence == COMPARISON;
            if compares && !is_compared {
                self.read(start, shape);
            }
            is_compared |= compares;
            (0..operator.len).for_each(|_| self.copy());
            let right = self.out.pieces.len();
            let right_shape = self.operators(operator.precedence + 1)?;
            if compares {
                self.read(right, right_shape);
            }
            shape = Shape::Operators;
        }
        Ok(shape)
    }

    fn operator(&self) -> Option<Operator> {
        let token = self.peek().filter(|token| token.kind != Kind::Text)?;
        let (precedence, filter) = match token.text {
            "or" => (OR, None),
            "and" => (AND, None),
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => (COMPARISON, None),
            "not" if self.is_at(1, "in") => return Some(Operator { precedence: COMPARISON, len: 2, filter: None }),
            "+" => (SUM, Some(ADD)),
            "-" => (SUM, None),
            "~" => (CONCATENATION, Some(CONCATENATE)),
            "*" => (PRODUCT, Some(MULTIPLY)),
            // Numeric only.
            "/" | "//" | "%" => (PRODUCT, None),
            "**" => (POWER, None),
            _ => return None,
        };
        Some(Operator { precedence, len: 1, filter })
    }

    /// A value with its sign, its attributes and its filters and tests.
    fn operand(&mut self) -> Result<Shape, Error> {
        let start = self.out.pieces.len();
        let shape = self.value(start)?;
        let after_value = self.position;
        loop {
            if self.copy_if("|") {
                self.dotted_name()?;
                if self.is_next("(") {
                    self.arguments(false)?;
                }
            } else if self.copy_if("is") {
                self.test()?;
            } else {
                return Ok(if self.position == after_value { shape } else { Shape::Operand });
            }
        }
    }

    /// What follows `is`: a name and one argument, in parentheses or not.
    fn test(&mut self) -> Result<(), Error> {
        self.copy_if("not");
        self.dotted_name()?;
        let Some(next) = self.peek() else { return Ok(()) };
        let begins_argument = match next.kind {
            Kind::Name => !["and", "or", "else", "is"].contains(&next.text),
            Kind::Number | Kind::Text => true,
            Kind::Mark => ["-", "[", "{"].contains(&next.text),
        };
        if next.kind == Kind::Mark && next.text == "(" {
            self.arguments(false)
        } else if begins_argument {
            self.out.push("(");
            let start = self.out.pieces.len();
            self.value(start)?;
            self.out.push(")");
            Ok(())
        } else {
            Ok(())
        }
    }

    /// A value with its sign, followed by attributes, elements, slices and calls.
    fn value(&mut self, start: usize) -> Result<Shape, Error> {
        let is_negated = self.is_next("-");
        while self.copy_if("-") {}
        let mut shape = self.primary()?;
        if is_negated {
            shape = Shape::Operand;
        }
        // `loop.changed` compares its arguments inside the engine.
        let mut compares = false;
        loop {
            if self.is_next(".") && self.peek_at(1).is_some_and(|token| token.kind == Kind::Number) {
                self.skip();
                self.filtered(start, shape, INDEX);
                self.out.push("[");
                self.copy();
                self.out.push("]");
            } else if self.copy_if(".") {
                compares = self.name()?.text == "changed";
            } else if self.is_next("[") {
                self.subscript(start)?;
            } else if self.is_next("(") {
                self.arguments(compares)?;
            } else {
                return Ok(shape);
            }
            shape = Shape::Operand;
        }
    }

    /// `[index]` or `[start:stop:step]` after a value that was written from `start` on.
    fn subscript(&mut self, start: usize) -> Result<(), Error> {
        self.skip();
        if self.is_next("]") {
            return Err(self.unexpected("an index"));
        }
        let after_value = self.out.pieces.len();
        self.bound()?;
        let mut num_bounds = 1;
        while num_bounds < 3 && self.is_next(":") {
            self.skip();
            self.out.push(",");
            self.bound()?;
            num_bounds += 1;
        }
        if !self.is_next("]") {
            return Err(self.unexpected("]"));
        }
        self.skip();
        let (opening, closing) = match num_bounds {
            1 => (format!("|{INDEX})["), "]"),
            2 => (format!("|{SLICE}("), ",none))"),
            _ => (format!("|{SLICE}("), "))"),
        };
        self.out.pieces.insert(after_value, opening.into());
        self.out.pieces.insert(start, "(".into());
        self.out.push(closing);
        Ok(())
    }

    /// An index, or a slice bound, which may be omitted.
    fn bound(&mut self) -> Result<(), Error> {
        if self.is_next(":") || self.is_next("]") {
            self.out.push("none");
            return Ok(());
        }
        self.expression().map(|_| ())
    }

    /// The name of a filter or test.
    pub(super) fn dotted_name(&mut self) -> Result<(), Error> {
        self.name()?;
        while self.copy_if(".") {
            self.name()?;
        }
        Ok(())
    }

    /// Wraps what has been written since `start` in a filter.
    pub(super) fn filtered(&mut self, start: usize, shape: Shape, filter: &str) {
        self.enclose(start, shape);
        self.out.pieces.insert(start, "(".into());
        self.out.push(format!("|{filter})"));
    }

    /// Pays for an operand that is read in full; a literal needs no payment.
    pub(super) fn read(&mut self, start: usize, shape: Shape) {
        if shape != Shape::Constant {
            self.filtered(start, shape, READ);
        }
    }

    /// Parenthesizes operators, so that a filter applies to all of them.
    fn enclose(&mut self, start: usize, shape: Shape) {
        if shape == Shape::Operators {
            self.out.pieces.insert(start, "(".into());
            self.out.push(")");
        }
    }
}
