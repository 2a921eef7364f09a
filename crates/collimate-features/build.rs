//! No work: this script is here so that build dependencies choose the same features in every build.

fn main() {}
