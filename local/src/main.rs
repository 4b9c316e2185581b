//! The binary `hongyan`.

fn main() {}
