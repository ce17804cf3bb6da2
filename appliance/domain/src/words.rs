//! One word for each byte, so that two people can compare a digest aloud.

/// The word for `byte`.
pub(crate) fn word(byte: u8) -> &'static str {
    WORDS[usize::from(byte)]
}

/// Short words that sound different from each other; the position is the byte. Never reordered:
/// digests on paper are compared with it.
const WORDS: [&str; 256] = [
    "acid", "acorn", "actor", "adobe", "agent", "album", "alert", "alley", "amber", "angle",
    "ankle", "apple", "apron", "arena", "argue", "armor", "arrow", "aspen", "atlas", "attic",
    "audio", "autumn", "award", "axis", "bacon", "badge", "bagel", "baker", "bamboo", "banjo",
    "barley", "basin", "basket", "beach", "beacon", "beaver", "berry", "bishop", "bison",
    "blanket", "blossom", "bonus", "border", "bottle", "bounty", "bramble", "bread", "bridge",
    "bronze", "bucket", "buffalo", "butter", "cabin", "cactus", "camel", "candle", "canoe",
    "canvas", "canyon", "carbon", "cargo", "carpet", "castle", "cedar", "cellar", "chalk",
    "cherry", "chess", "cider", "cinder", "circle", "citrus", "clover", "cobalt", "cobra",
    "coffee", "comet", "copper", "coral", "cotton", "cousin", "cradle", "crane", "crayon",
    "cricket", "crystal", "daisy", "dancer", "debate", "decade", "delta", "denim", "desert",
    "diesel", "dinner", "doctor", "dolphin", "donkey", "dragon", "drift", "drum", "eagle", "easel",
    "echo", "eclipse", "elbow", "elder", "elephant", "ember", "emerald", "engine", "envoy",
    "epoch", "evening", "fabric", "falcon", "famine", "feather", "fennel", "ferry", "fiddle",
    "figure", "finch", "flannel", "flint", "forest", "fossil", "fountain", "fox", "frost",
    "funnel", "gadget", "galaxy", "garden", "garlic", "gazelle", "geyser", "ginger", "glacier",
    "globe", "goblet", "gopher", "granite", "gravel", "guitar", "gypsum", "habit", "hammer",
    "harbor", "harvest", "hazel", "helmet", "heron", "hickory", "hockey", "honey", "hornet",
    "humid", "iceberg", "igloo", "index", "ink", "insect", "iris", "iron", "island", "ivory",
    "jacket", "jaguar", "jasmine", "jelly", "jigsaw", "jungle", "juniper", "kernel", "kettle",
    "kiosk", "kitten", "koala", "ladder", "lagoon", "lantern", "laurel", "lemon", "leopard",
    "lilac", "limber", "linen", "lizard", "lobster", "lunar", "magnet", "mango", "maple", "marble",
    "meadow", "melon", "mirror", "mosaic", "museum", "mustard", "napkin", "nectar", "needle",
    "nickel", "noodle", "nutmeg", "oasis", "oboe", "ocean", "olive", "onion", "opal", "orbit",
    "orchid", "otter", "oyster", "paddle", "panda", "paper", "parrot", "pebble", "pepper", "piano",
    "pigeon", "planet", "plaza", "pollen", "potato", "prairie", "pumpkin", "python", "quartz",
    "quill", "rabbit", "radar", "raven", "ribbon", "river", "rocket", "saddle", "salmon", "sandal",
    "sapphire", "silver", "sonnet", "spruce", "sunset", "tango", "thimble", "tiger", "timber",
    "tulip", "tundra", "turtle", "umbrella",
];
