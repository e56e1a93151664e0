//! Structs that kernels read from buffers, declared once in Rust and mirrored in WGSL.
//!
//! A shader's mirror is a `struct` with the same field names, order and types. Unit tests parse
//! every shader and compare it with the [`Layout`] of its Rust struct, offsets and size included.
//! WGSL aligns `vec2` to 8 bytes, `vec3` and `vec4` to 16, Rust every field to 4: fields are
//! ordered so that both agree without padding.

/// A field's type: scalars and vectors of 32 bits per component.
pub(crate) trait Value: Copy {
    /// Name of the type in WGSL.
    const TYPE: &'static str;

    /// Appends the bits of its components.
    fn push(self, words: &mut Vec<u32>);
}

macro_rules! values {
    ($($scalar:ty: $bits:expr, [$($size:literal)*];)*) => {$(
        impl Value for $scalar {
            const TYPE: &'static str = stringify!($scalar);

            fn push(self, words: &mut Vec<u32>) {
                words.push($bits(self));
            }
        }

        $(impl Value for [$scalar; $size] {
            const TYPE: &'static str =
                concat!("vec", stringify!($size), "<", stringify!($scalar), ">");

            fn push(self, words: &mut Vec<u32>) {
                words.extend(self.map($bits));
            }
        })*
    )*};
}

values! {
    u32: std::convert::identity, [2 3 4];
    i32: i32::cast_unsigned, [2 3];
    f32: f32::to_bits, [2 3];
}

/// One field of a [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: &'static str,
    /// Name of the type in WGSL.
    pub ty: &'static str,
    /// Offset from the start of the struct, bytes.
    pub offset: usize,
}

/// Expected layout of a WGSL struct.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The struct's name in WGSL.
    pub name: &'static str,
    pub fields: &'static [Field],
    /// Size without the tail, bytes.
    pub size: usize,
    /// Runtime-sized array after the fields.
    pub tail: Option<Tail>,
}

/// A runtime-sized array as the last member of a struct.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub name: &'static str,
    pub element: Element,
}

/// Elements of a runtime-sized array.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// A scalar or vector, by its name in WGSL.
    Value(&'static str),
    Struct(&'static Layout),
}

/// A struct that a kernel reads from a buffer; [`wgsl_struct!`] implements it.
pub(crate) trait Record {
    const LAYOUT: &'static Layout;

    /// Appends the struct's representation in memory.
    fn push(&self, words: &mut Vec<u32>);

    /// Returns the struct's representation in memory.
    fn words(&self) -> Vec<u32> {
        let mut words = Vec::with_capacity(Self::LAYOUT.size / 4);
        self.push(&mut words);
        words
    }
}

/// Returns the words of consecutive records, for a buffer that a shader declares as an array of
/// them.
pub(crate) fn array_words<R: Record>(records: impl IntoIterator<Item = R>) -> Vec<u32> {
    let mut words = Vec::new();
    records.into_iter().for_each(|record| record.push(&mut words));
    words
}

/// Declares a struct with the same layout in Rust and in WGSL, where it is called `as "Name"`;
/// `then name: [element]` adds a runtime-sized array after its fields.
macro_rules! wgsl_struct {
    (@tail) => { None };
    (@tail $tail:ident, $element:expr) => {
        Some($crate::kernels::layout::Tail { name: stringify!($tail), element: $element })
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident as $wgsl:literal {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
        $(then $tail:ident: [$element:expr])?
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $crate::kernels::layout::Record for $name {
            const LAYOUT: &'static $crate::kernels::layout::Layout = {
                use $crate::kernels::layout::{Field, Layout, Value};
                &Layout {
                    name: $wgsl,
                    fields: &[$(Field {
                        name: stringify!($field),
                        ty: <$ty as Value>::TYPE,
                        offset: std::mem::offset_of!($name, $field),
                    }),*],
                    size: size_of::<$name>(),
                    tail: $crate::kernels::layout::wgsl_struct!(@tail $($tail, $element)?),
                }
            };

            fn push(&self, words: &mut Vec<u32>) {
                use $crate::kernels::layout::Value as _;
                $(self.$field.push(words);)*
            }
        }
    };
}
pub(crate) use wgsl_struct;
