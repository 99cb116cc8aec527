//! Putting a script together from its file and the fragments it uses.

/// Joins `lua/<name>.lua` and the named fragments of `lua/lib` at compile time. Each part opens
/// with a comment, so that a line number in an error can be traced to its file.
///
/// A script creates all its functions anew in every call, and pays for each. Fragments that few calls need
/// are put into a function, by the name of the group, that creates them when it is first called, and returns
/// a table of the functions that the script may call: `flows().release_if_free(...)`.
macro_rules! lua {
    (
        $name:literal,
        uses: [$($part:literal),* $(,)?]
        $(, rarely: { $($group:ident: [$($rare:literal),* $(,)?] => [$($function:ident),* $(,)?]),* $(,)? })?
        $(,)?
    ) => {
        $crate::client::Script::deriving($name, concat!(
            $($(
                "local ", stringify!($group), ", made_", stringify!($group), "\n",
            )*)?
            $(
                "-- lua/lib/", $part, ".lua\n",
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/lib/", $part, ".lua")),
            )*
            $($(
                "function ", stringify!($group), "()\n",
                "if made_", stringify!($group), " then return made_", stringify!($group), " end\n",
                $(
                    "-- lua/lib/", $rare, ".lua\n",
                    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/lib/", $rare, ".lua")),
                )*
                "made_", stringify!($group), " = {",
                $(stringify!($function), " = ", stringify!($function), ",",)*
                "}\nreturn made_", stringify!($group), "\nend\n",
            )*)?
            "-- lua/", $name, ".lua\n",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/", $name, ".lua")),
        ))
    };
}
pub(crate) use lua;
