#!/bin/sh
# Writes small H.264 clips of many kinds into a folder, as seed inputs of the video target.
set -eu
out=$1
mkdir -p "$out"
clip() {
    name=$1 size=$2 frames=$3
    shift 3
    ffmpeg -v error -nostdin -y -f lavfi -i "testsrc2=s=$size:r=25" -frames:v "$frames" \
        -c:v libx264 -pix_fmt yuv420p -threads 1 -map_metadata -1 -fflags +bitexact \
        -flags:v +bitexact "$@" "$out/$name.mp4"
}
x264="-bsf:v filter_units=remove_types=6 -x264-params"
clip baseline 32x32 3 -profile:v baseline $x264 keyint=2:scenecut=0
clip intra 32x32 2 -g 1 $x264 keyint=1
clip cabac_b 64x48 7 -profile:v main $x264 bframes=3:b-adapt=0:keyint=250
clip cavlc_b 64x48 7 -profile:v main $x264 bframes=2:b-adapt=0:cabac=0
clip high8x8 64x48 5 -profile:v high $x264 8x8dct=1:bframes=1:b-adapt=0
clip high8x8_cavlc 64x48 4 -profile:v high $x264 8x8dct=1:cabac=0
clip pyramid 64x48 9 $x264 bframes=5:b-adapt=0:b-pyramid=normal:direct=temporal
clip slices 64x48 4 $x264 slices=3:bframes=0
clip refs 48x48 8 $x264 ref=8:bframes=2:keyint=250
clip weighted 48x32 6 -vf fade=in:0:6 $x264 weightp=2:weightb=1:bframes=1
clip open_gop 48x32 8 $x264 open-gop=1:keyint=4:bframes=2:b-adapt=0
clip odd_size 34x30 3 $x264 keyint=2
clip two_bytes 32x32 2 -tune stillimage $x264 keyint=1
clip tagged 32x32 2 -colorspace bt709 -color_range pc $x264 fullrange=on:colormatrix=bt709
clip lossless 32x32 2 -qp 0 $x264 keyint=2
clip interlaced 32x32 2 -flags:v +ildct $x264 tff=1
clip fake_interlaced 32x64 2 $x264 fake-interlaced=1
clip scaling 48x48 3 -profile:v high $x264 cqm=jvt
clip edit_list 48x32 8 -ss 0.08 $x264 bframes=2:b-adapt=0
clip fragmented 32x32 2 -movflags frag_keyframe+empty_moov $x264 keyint=2
clip index_first 32x32 3 -movflags faststart $x264 keyint=2
clip inband 32x32 3 -tag:v avc3 $x264 repeat-headers=1:keyint=2
ffmpeg -v error -nostdin -y -f lavfi -i testsrc2=s=48x32:r=25 -f lavfi -i sine=d=0.1 -frames:v 3 \
    -c:v libx264 -pix_fmt yuv420p -c:a aac -shortest -map_metadata -1 "$out/sound.mp4"
# An edit list that begins inside the clip.
ffmpeg -v error -nostdin -y -ss 0.1 -i "$out/pyramid.mp4" -c copy "$out/cut.mp4" || true
