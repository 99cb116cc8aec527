//! Putting a script together from its file and the fragments it uses.

/// Joins `lua/<name>.lua` and the named fragments of `lua/lib` at compile time. Each part opens
/// with a comment, so that a line number in an error can be traced to its file.
///
/// A script creates all its functions anew in every call, and pays for each. Fragments that few calls need
/// are put into a function, by the name of the group, that creates them when it is first called, and returns
/// a table of the functions that the script may call: `flows().release_if_free(...)`. A group may have groups of its
/// own, in braces before its fragments, for these to call: they cost nothing before it is called itself.
macro_rules! lua {
    (
        $name:literal,
        uses: [$($part:literal),* $(,)?]
        $(, rarely: { $($groups:tt)* })?
        $(,)?
    ) => {
        $crate::client::Script::deriving($name, concat!(
            $($crate::client::lua_names!($($groups)*),)?
            $($crate::client::lua_part!($part),)*
            $($crate::client::lua_groups!($($groups)*),)?
            "-- lua/", $name, ".lua\n",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/", $name, ".lua")),
        ))
    };
}

/// One fragment, with its name.
macro_rules! lua_part {
    ($part:literal) => {
        concat!(
            "-- lua/lib/",
            $part,
            ".lua\n",
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/lua/lib/",
                $part,
                ".lua"
            )),
        )
    };
}

/// Declares groups, so that fragments before them may call them.
macro_rules! lua_names {
    ($($group:ident: $({ $($inner:tt)* })? [$($part:literal),* $(,)?] => [$($function:ident),* $(,)?]),* $(,)?) => {
        concat!($("local ", stringify!($group), ", made_", stringify!($group), "\n",)*)
    };
}

/// Writes the functions that create groups.
macro_rules! lua_groups {
    ($($group:ident: $({ $($inner:tt)* })? [$($part:literal),* $(,)?] => [$($function:ident),* $(,)?]),* $(,)?) => {
        concat!($(
            "function ", stringify!($group), "()\n",
            "if made_", stringify!($group), " then return made_", stringify!($group), " end\n",
            $($crate::client::lua_names!($($inner)*),)?
            $($crate::client::lua_part!($part),)*
            $($crate::client::lua_groups!($($inner)*),)?
            "made_", stringify!($group), " = {",
            $(stringify!($function), " = ", stringify!($function), ",",)*
            "}\nreturn made_", stringify!($group), "\nend\n",
        )*)
    };
}
pub(crate) use {lua, lua_groups, lua_names, lua_part};
