//! Makes every build of this workspace choose the same features for shared dependencies; holds no code.
