// Advances to the position of the next step, using only additions.
remaining -= i32(STEP);
a_at += STEP;
b_at += STEP * stride.z;
x_position.z += i32(STEP * stride.z);
while (x_position.z >= limit.z) {
    x_position.z -= span.z;
    x_position.y += i32(stride.y);
    a_at += a_row;
    b_at += b_row;
    if (x_position.y >= limit.y) {
        x_position.y -= span.y;
        x_position.x += i32(stride.x);
        b_at += b_plane;
        if (x_position.x >= limit.x) {
            x_position.x -= span.x;
            a_at += a_image;
            b_at += b_image;
        }
    }
}
