// The columns of a vec4 are consecutive.
fn column_of(quad: u32, part: u32) -> u32 {
    return 4u * quad + part;
}

// Returns the first column of a vec4, or of the last vec4 that exists.
fn first_column(column0: u32, quad: u32, phase: Phase) -> u32 {
    return min(column0 + column_of(quad, 0u), phase.columns - 4u);
}
