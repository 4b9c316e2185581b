//! The build of this process.

use super::metric;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built: the variable `HONGYAN_COMMIT` of the build, or `unknown`. `./dev build` sets the variable.
pub const COMMIT: &str = match option_env!("HONGYAN_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Records [`metric::BUILD_INFO`]. A Lambda does not: its line `lambda.start: ready` has the same values.
pub fn record() {
    metrics::gauge!(metric::BUILD_INFO, "version" => VERSION, "commit" => COMMIT).set(1.0);
}
