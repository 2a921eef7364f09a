//! Rewrites the expressions in statements; the rest is copied.

use minijinja::Error;

use super::Reader;
use super::expressions::Shape;
use crate::lexer::{Kind, syntax_error};
use crate::operators::{NEW, STORE};

impl Reader<'_, '_> {
    /// The content of a `{% … %}` tag. The engine checks which statements exist and how they nest.
    pub(super) fn statement(&mut self) -> Result<(), Error> {
        let Some(keyword) = self.peek().filter(|token| token.kind == Kind::Name) else {
            return Err(self.unexpected("a statement"));
        };
        match keyword.text {
            // They mark the assistant's tokens and print nothing.
            "generation" => return self.replace("if true"),
            "endgeneration" => return self.replace("endif"),
            "import" | "include" | "extends" | "from" => {
                let problem = "a chat template cannot read other templates (import, include, extends)";
                return Err(syntax_error(problem, keyword.line));
            }
            _ => self.copy(),
        }
        match keyword.text {
            "for" => self.for_loop(),
            "if" | "elif" => self.unconditional().map(|_| ()),
            "set" => self.set(),
            "with" => self.with(),
            "macro" => {
                self.name()?;
                self.parameters()
            }
            "call" => {
                if self.is_next("(") {
                    self.parameters()?;
                }
                self.expression().map(|_| ())
            }
            "filter" => self.filter_chain(),
            "do" | "autoescape" => self.expression().map(|_| ()),
            // `else`, `endif`, `break`, `block NAME`: no expressions.
            _ => {
                while self.peek().is_some() {
                    self.name()?;
                }
                Ok(())
            }
        }
    }

    fn replace(&mut self, keyword: &'static str) -> Result<(), Error> {
        self.skip();
        self.out.push(keyword);
        Ok(())
    }

    fn for_loop(&mut self) -> Result<(), Error> {
        self.target()?;
        self.require("in")?;
        self.unconditional()?;
        if self.copy_if("if") {
            self.expression()?;
        }
        self.copy_if("recursive");
        Ok(())
    }

    /// `set name = value`, `set namespace.name = value`, or the start of a block whose text is assigned.
    fn set(&mut self) -> Result<(), Error> {
        let is_attribute = self.target()?;
        if self.copy_if("|") {
            return self.filter_chain();
        }
        if self.peek().is_none() {
            return Ok(());
        }
        self.require("=")?;
        let start = self.out.pieces.len();
        let mut shape = self.expression()?;
        if self.is_next(",") {
            self.out.pieces.insert(start, "(".into());
            while self.copy_if(",") && self.peek().is_some() {
                self.expression()?;
            }
            self.out.push(")");
            shape = Shape::Operand;
            self.filtered(start, shape, NEW);
        }
        if is_attribute {
            self.filtered(start, shape, STORE);
        }
        Ok(())
    }

    fn with(&mut self) -> Result<(), Error> {
        let mut is_first = true;
        while self.peek().is_some() {
            if !is_first {
                self.require(",")?;
            }
            if self.copy_if("(") {
                self.target()?;
                self.require(")")?;
            } else {
                self.name()?;
            }
            self.require("=")?;
            self.expression()?;
            is_first = false;
        }
        Ok(())
    }

    /// The parameters of a macro, in parentheses.
    fn parameters(&mut self) -> Result<(), Error> {
        self.require("(")?;
        let mut is_first = true;
        while !self.copy_if(")") {
            if !is_first {
                self.require(",")?;
                if self.copy_if(")") {
                    break;
                }
            }
            self.name()?;
            if self.copy_if("=") {
                self.expression()?;
            }
            is_first = false;
        }
        Ok(())
    }

    fn filter_chain(&mut self) -> Result<(), Error> {
        loop {
            self.dotted_name()?;
            if self.is_next("(") {
                self.arguments(false)?;
            }
            if !self.copy_if("|") {
                return Ok(());
            }
        }
    }

    /// An assignment's target: names, lists of names, or a namespace's attribute. Returns whether it is an attribute.
    fn target(&mut self) -> Result<bool, Error> {
        let mut is_attribute = false;
        let mut open = 0_usize;
        while let Some(token) = self.peek() {
            match (token.kind, token.text) {
                (Kind::Name, "in") => break,
                (Kind::Name, _) => {}
                (Kind::Mark, ".") => is_attribute = true,
                (Kind::Mark, ",") => {}
                (Kind::Mark, "(") => open += 1,
                (Kind::Mark, ")") if open > 0 => open -= 1,
                _ => break,
            }
            self.copy();
        }
        Ok(is_attribute)
    }
}
