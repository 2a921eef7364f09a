//! Does nothing; with a build script, build dependencies choose the same features in every build.

fn main() {}
