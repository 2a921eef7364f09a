//! From a template's text to instructions, with every operation that can grow a value turned into one that pays for it.
//!
//! The engine evaluates operators itself, and folds those on constants while it compiles: `"a" * 100000000 ~ …` would
//! take the memory before anything is rendered. So the syntax tree is rebuilt with such operators as filters, whose
//! names no template can write.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{self, Expr, Spanned, Stmt};
use minijinja::machinery::{CodeGenerator, Instructions, Span, Token, WhitespaceConfig, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind, Value};
use self_cell::self_cell;

/// Name of the template in the engine.
const NAME: &str = "chat_template";
/// The longest template, in bytes. Published ones have up to some 30,000.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Tokens of one tag. Operators of a tag nest in the syntax tree, which is walked and dropped by recursion.
const MAX_TAG_TOKENS: usize = 1000;
/// `elif` branches of a template: each nests in the one before.
const MAX_ELIFS: usize = 250;

pub(super) const ADD: &str = "+";
pub(super) const MULTIPLY: &str = "*";
pub(super) const CONCATENATE: &str = "~";
pub(super) const SLICE: &str = "[:]";
/// Passes on a list or map that was just made.
pub(super) const MADE: &str = "[]";
/// Passes on a value that is about to be compared, texts and all.
pub(super) const READ: &str = "==";
/// Passes on a value of which an element is about to be looked up.
pub(super) const INDEXED: &str = "[.]";
/// Passes on a value that a namespace may keep.
pub(super) const KEPT: &str = ".=";

/// The instructions of a template and of its blocks.
pub(super) struct Code<'source> {
    pub(super) main: Instructions<'source>,
    pub(super) blocks: BTreeMap<&'source str, Instructions<'source>>,
}

self_cell!(
    /// A template's text and what was compiled from it.
    pub(super) struct Compiled {
        owner: String,
        #[covariant]
        dependent: Code,
    }
);

/// Compiles a template's text.
pub(super) fn compile(source: String) -> Result<Compiled, Error> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(syntax(format!("the template has {} bytes, at most {MAX_SOURCE_BYTES} are read", source.len())));
    }
    Compiled::try_new(source, |source| {
        check_size(source)?;
        let tree = parse(source, NAME, SyntaxConfig, whitespace())?;
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&statement(&tree)?);
        let (main, blocks) = generator.finish();
        Ok(Code { main, blocks })
    })
}

/// As transformers sets Jinja2.
fn whitespace() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// Refuses what would nest too deep in the syntax tree. What cannot be read at all is the parser's to report.
fn check_size(source: &str) -> Result<(), Error> {
    let (mut in_tag, mut elifs) = (0, 0);
    for (token, span) in tokenize(source, false, SyntaxConfig, whitespace()).map_while(Result::ok) {
        match token {
            Token::BlockStart | Token::VariableStart => in_tag = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        in_tag += 1;
        let line = span.start_line;
        if in_tag > MAX_TAG_TOKENS {
            return Err(syntax(format!("a tag has more than {MAX_TAG_TOKENS} tokens (line {line} of the template)")));
        }
        if elifs > MAX_ELIFS {
            return Err(syntax(format!("there are more than {MAX_ELIFS} elif (line {line} of the template)")));
        }
    }
    Ok(())
}

fn syntax(problem: String) -> Error {
    Error::new(ErrorKind::SyntaxError, problem)
}

fn statements<'a>(list: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, Error> {
    list.iter().map(statement).collect()
}

fn statement<'a>(old: &Stmt<'a>) -> Result<Stmt<'a>, Error> {
    Ok(match old {
        Stmt::Template(old) => Stmt::Template(like(old, ast::Template { children: statements(&old.children)? })),
        Stmt::EmitExpr(old) => Stmt::EmitExpr(like(old, ast::EmitExpr { expr: expression(&old.expr) })),
        // As a constant, so that it goes through the formatter, which counts what is printed.
        Stmt::EmitRaw(old) => Stmt::EmitExpr(like(old, ast::EmitExpr { expr: constant(old.raw, old.span()) })),
        Stmt::ForLoop(old) => Stmt::ForLoop(like(
            old,
            ast::ForLoop {
                target: target(&old.target),
                iter: expression(&old.iter),
                filter_expr: old.filter_expr.as_ref().map(expression),
                recursive: old.recursive,
                body: statements(&old.body)?,
                else_body: statements(&old.else_body)?,
            },
        )),
        Stmt::IfCond(old) => Stmt::IfCond(like(
            old,
            ast::IfCond {
                expr: expression(&old.expr),
                true_body: statements(&old.true_body)?,
                false_body: statements(&old.false_body)?,
            },
        )),
        Stmt::WithBlock(old) => {
            let assignments = old.assignments.iter().map(|(name, value)| (target(name), expression(value))).collect();
            Stmt::WithBlock(like(old, ast::WithBlock { assignments, body: statements(&old.body)? }))
        }
        Stmt::Set(old) => {
            let value = expression(&old.expr);
            let kept = matches!(old.target, Expr::GetAttr(_));
            let expr = if kept { paid(KEPT, value, Vec::new(), old.span()) } else { value };
            Stmt::Set(like(old, ast::Set { target: target(&old.target), expr }))
        }
        Stmt::SetBlock(old) => Stmt::SetBlock(like(
            old,
            ast::SetBlock {
                target: target(&old.target),
                filter: old.filter.as_ref().map(expression),
                body: statements(&old.body)?,
            },
        )),
        Stmt::AutoEscape(old) => Stmt::AutoEscape(like(
            old,
            ast::AutoEscape { enabled: expression(&old.enabled), body: statements(&old.body)? },
        )),
        Stmt::FilterBlock(old) => Stmt::FilterBlock(like(
            old,
            ast::FilterBlock { filter: expression(&old.filter), body: statements(&old.body)? },
        )),
        Stmt::Block(old) => {
            Stmt::Block(like(old, ast::Block { name: old.name, required: old.required, body: statements(&old.body)? }))
        }
        Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
            return Err(syntax("a chat template cannot read other templates (import, include, extends)".to_owned()));
        }
        Stmt::Macro(old) => Stmt::Macro(macro_of(old)?),
        Stmt::CallBlock(old) => {
            Stmt::CallBlock(like(old, ast::CallBlock { call: call(&old.call), macro_decl: macro_of(&old.macro_decl)? }))
        }
        Stmt::Continue(old) => Stmt::Continue(like(old, ast::Continue)),
        Stmt::Break(old) => Stmt::Break(like(old, ast::Break)),
        Stmt::Do(old) => Stmt::Do(like(old, ast::Do { call: call(&old.call) })),
    })
}

fn macro_of<'a>(old: &Spanned<ast::Macro<'a>>) -> Result<Spanned<ast::Macro<'a>>, Error> {
    let args = old.args.iter().map(target).collect();
    let defaults = old.defaults.iter().map(expression).collect();
    Ok(like(old, ast::Macro { name: old.name, args, defaults, body: statements(&old.body)? }))
}

/// What is assigned to: names, lists of them, an attribute of a namespace. Only the latter holds an expression.
fn target<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::List(old) => Expr::List(like(old, ast::List { items: old.items.iter().map(target).collect() })),
        Expr::GetAttr(old) => Expr::GetAttr(like(old, ast::GetAttr { expr: expression(&old.expr), name: old.name })),
        other => expression(other),
    }
}

fn expression<'a>(old: &Expr<'a>) -> Expr<'a> {
    let optional = |old: &Option<Expr<'a>>, span| old.as_ref().map_or_else(|| constant((), span), expression);
    match old {
        Expr::Var(old) => Expr::Var(like(old, ast::Var { id: old.id })),
        Expr::Const(old) => constant(old.value.clone(), old.span()),
        Expr::Slice(old) => {
            let span = old.span();
            let ends = [&old.start, &old.stop, &old.step].map(|end| optional(end, span));
            paid(SLICE, expression(&old.expr), ends.into(), span)
        }
        Expr::UnaryOp(old) => {
            let negates = matches!(old.op, ast::UnaryOpKind::Neg);
            let op = if negates { ast::UnaryOpKind::Neg } else { ast::UnaryOpKind::Not };
            Expr::UnaryOp(like(old, ast::UnaryOp { op, expr: expression(&old.expr) }))
        }
        Expr::BinOp(old) => binary(old),
        Expr::Compare(old) => {
            let ops = old.ops.iter().map(|part| ast::CompareOp { op: comparison(&part.op), expr: read(&part.expr) });
            Expr::Compare(like(old, ast::Compare { expr: read(&old.expr), ops: ops.collect() }))
        }
        Expr::IfExpr(old) => Expr::IfExpr(like(
            old,
            ast::IfExpr {
                test_expr: expression(&old.test_expr),
                true_expr: expression(&old.true_expr),
                false_expr: old.false_expr.as_ref().map(expression),
            },
        )),
        Expr::Filter(old) => {
            let (expr, args) = (old.expr.as_ref().map(expression), arguments(&old.args, expression));
            Expr::Filter(like(old, ast::Filter { name: old.name, expr, args }))
        }
        Expr::Test(old) => {
            let (expr, args) = (expression(&old.expr), arguments(&old.args, expression));
            Expr::Test(like(old, ast::Test { name: old.name, expr, args }))
        }
        Expr::GetAttr(old) => Expr::GetAttr(like(old, ast::GetAttr { expr: expression(&old.expr), name: old.name })),
        Expr::GetItem(old) => {
            let expr = paid(INDEXED, expression(&old.expr), Vec::new(), old.span());
            Expr::GetItem(like(old, ast::GetItem { expr, subscript_expr: expression(&old.subscript_expr) }))
        }
        Expr::Call(old) => Expr::Call(call(old)),
        Expr::List(old) => {
            let list = like(old, ast::List { items: old.items.iter().map(expression).collect() });
            paid(MADE, Expr::List(list), Vec::new(), old.span())
        }
        Expr::Map(old) => {
            let (keys, values) = (old.keys.iter().map(read), old.values.iter().map(expression));
            let map = like(old, ast::Map { keys: keys.collect(), values: values.collect() });
            paid(MADE, Expr::Map(map), Vec::new(), old.span())
        }
    }
}

fn binary<'a>(old: &Spanned<ast::BinOp<'a>>) -> Expr<'a> {
    use ast::BinOpKind as Op;
    let as_filter = |name| paid(name, expression(&old.left), vec![expression(&old.right)], old.span());
    let keep = |op, side: fn(&Expr<'a>) -> Expr<'a>| {
        Expr::BinOp(like(old, ast::BinOp { op, left: side(&old.left), right: side(&old.right) }))
    };
    match old.op {
        Op::Add => as_filter(ADD),
        Op::Mul => as_filter(MULTIPLY),
        Op::Concat => as_filter(CONCATENATE),
        Op::Eq => keep(Op::Eq, read),
        Op::Ne => keep(Op::Ne, read),
        Op::Lt => keep(Op::Lt, read),
        Op::Lte => keep(Op::Lte, read),
        Op::Gt => keep(Op::Gt, read),
        Op::Gte => keep(Op::Gte, read),
        Op::In => keep(Op::In, read),
        // Numbers only, or no work at all.
        Op::ScAnd => keep(Op::ScAnd, expression),
        Op::ScOr => keep(Op::ScOr, expression),
        Op::Sub => keep(Op::Sub, expression),
        Op::Div => keep(Op::Div, expression),
        Op::FloorDiv => keep(Op::FloorDiv, expression),
        Op::Rem => keep(Op::Rem, expression),
        Op::Pow => keep(Op::Pow, expression),
    }
}

fn comparison(old: &ast::CompareOpKind) -> ast::CompareOpKind {
    use ast::CompareOpKind as Op;
    match old {
        Op::Eq => Op::Eq,
        Op::Ne => Op::Ne,
        Op::Lt => Op::Lt,
        Op::Lte => Op::Lte,
        Op::Gt => Op::Gt,
        Op::Gte => Op::Gte,
        Op::In => Op::In,
        Op::NotIn => Op::NotIn,
    }
}

fn call<'a>(old: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    // `loop.changed` compares its arguments inside the engine.
    let compares = matches!(&old.expr, Expr::GetAttr(callee) if callee.name == "changed");
    let argument = if compares { read } else { expression };
    like(old, ast::Call { expr: expression(&old.expr), args: arguments(&old.args, argument) })
}

fn arguments<'a>(old: &[ast::CallArg<'a>], argument: fn(&Expr<'a>) -> Expr<'a>) -> Vec<ast::CallArg<'a>> {
    let rebuilt = |old: &ast::CallArg<'a>| match old {
        ast::CallArg::Pos(value) => ast::CallArg::Pos(argument(value)),
        ast::CallArg::Kwarg(name, value) => ast::CallArg::Kwarg(name, argument(value)),
        ast::CallArg::PosSplat(value) => ast::CallArg::PosSplat(argument(value)),
        ast::CallArg::KwargSplat(value) => ast::CallArg::KwargSplat(argument(value)),
    };
    old.iter().map(rebuilt).collect()
}

/// An operand whose whole value is read; a constant of the template is as long as it is written.
fn read<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::Const(_) => expression(old),
        _ => paid(READ, expression(old), Vec::new(), old.span()),
    }
}

fn paid<'a>(name: &'static str, value: Expr<'a>, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let args = args.into_iter().map(ast::CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(value), args }, span))
}

fn constant<'a>(value: impl Into<Value>, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value: value.into() }, span))
}

fn like<T, U>(old: &Spanned<T>, new: U) -> Spanned<U> {
    Spanned::new(new, old.span())
}
