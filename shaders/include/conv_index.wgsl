// Splits a number into (rest, t, h, w) by `size`, w fastest.
fn decompose(number: u32, size: vec3<u32>) -> vec4<u32> {
    let row = number / size.z;
    let plane = row / size.y;
    let rest = plane / size.x;
    return vec4(rest, plane - rest * size.x, row - plane * size.y, number - row * size.z);
}
