//! The operands of expressions: names, literals, and anything in brackets.

use minijinja::Error;

use super::Reader;
use super::expressions::Shape;
use crate::lexer::Kind;
use crate::operators::NEW;

/// What parentheses contain: `(a)` is `a`; `(a, b)`, `(a,)` and `()` are lists.
#[derive(PartialEq, Eq)]
enum Items {
    One,
    Several,
}

impl Reader<'_, '_> {
    /// A name, a literal, or an expression in brackets.
    pub(super) fn primary(&mut self) -> Result<Shape, Error> {
        let start = self.out.pieces.len();
        let Some(token) = self.peek() else { return Err(self.unexpected("an expression")) };
        match (token.kind, token.text) {
            (Kind::Name, name) => {
                self.copy();
                let constants = ["true", "True", "false", "False", "none", "None"];
                return Ok(if constants.contains(&name) { Shape::Constant } else { Shape::Operand });
            }
            (Kind::Number, _) => {
                self.copy();
                return Ok(Shape::Constant);
            }
            // Adjacent string literals are concatenated.
            (Kind::Text, _) => {
                while self.peek().is_some_and(|token| token.kind == Kind::Text) {
                    self.copy();
                }
                return Ok(Shape::Constant);
            }
            (_, "(") => {
                self.copy();
                if self.items(")")? == Items::One {
                    return Ok(Shape::Operand);
                }
            }
            (_, "[") => {
                self.copy();
                self.items("]")?;
            }
            (_, "{") => {
                self.copy();
                self.entries()?;
            }
            _ => return Err(self.unexpected("an expression")),
        }
        self.filtered(start, Shape::Operand, NEW);
        Ok(Shape::Operand)
    }

    /// The elements of a list or tuple, up to its closing bracket.
    fn items(&mut self, close: &'static str) -> Result<Items, Error> {
        let mut items = Items::One;
        let mut is_first = true;
        while !self.copy_if(close) {
            if !is_first {
                self.require(",")?;
                items = Items::Several;
                if self.copy_if(close) {
                    return Ok(items);
                }
            }
            self.expression()?;
            is_first = false;
        }
        Ok(if is_first { Items::Several } else { items })
    }

    /// The entries of a map, up to its closing brace.
    fn entries(&mut self) -> Result<(), Error> {
        let mut is_first = true;
        while !self.copy_if("}") {
            if !is_first {
                self.require(",")?;
                if self.copy_if("}") {
                    break;
                }
            }
            let key = self.out.pieces.len();
            let shape = self.expression()?;
            self.read(key, shape);
            self.require(":")?;
            self.expression()?;
            is_first = false;
        }
        Ok(())
    }

    /// The arguments of a call, in parentheses; `compares` if the engine compares them.
    pub(super) fn arguments(&mut self, compares: bool) -> Result<(), Error> {
        self.require("(")?;
        let mut is_first = true;
        while !self.copy_if(")") {
            if !is_first {
                self.require(",")?;
                if self.copy_if(")") {
                    break;
                }
            }
            let is_spread = self.copy_if("**") || self.copy_if("*");
            if !is_spread && self.peek().is_some_and(|token| token.kind == Kind::Name) && self.is_at(1, "=") {
                self.copy();
                self.copy();
            }
            let start = self.out.pieces.len();
            let shape = self.expression()?;
            if compares {
                self.read(start, shape);
            }
            is_first = false;
        }
        Ok(())
    }
}
