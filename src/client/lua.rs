//! Putting a script together from its file and the fragments it uses.

/// Joins `lua/<name>.lua` and the named fragments of `lua/lib` at compile time. Each part opens
/// with a comment, so that a line number in an error can be traced to its file.
macro_rules! lua {
    ($name:literal, uses: [$($part:literal),* $(,)?]) => {
        $crate::client::Script::new($name, concat!(
            $(
                "-- lua/lib/", $part, ".lua\n",
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/lib/", $part, ".lua")),
            )*
            "-- lua/", $name, ".lua\n",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/", $name, ".lua")),
        ))
    };
}
pub(crate) use lua;
