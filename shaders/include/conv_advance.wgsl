// On to the position of the next step, by additions alone.
left -= i32(STEP);
a_at += STEP;
b_at += STEP * stride.z;
seen.z += i32(STEP * stride.z);
while (seen.z >= limit.z) {
    seen.z -= span.z;
    seen.y += i32(stride.y);
    a_at += a_row;
    b_at += b_row;
    if (seen.y >= limit.y) {
        seen.y -= span.y;
        seen.x += i32(stride.x);
        b_at += b_plane;
        if (seen.x >= limit.x) {
            seen.x -= span.x;
            a_at += a_image;
            b_at += b_image;
        }
    }
}
