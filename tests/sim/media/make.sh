#!/bin/sh
# Makes the simulated library's film: one minute of test picture and tone, whole as film.mkv for direct play and cut
# into transport-stream segments of three seconds for HLS, and the poster. Needs ffmpeg; the results are committed, so
# nobody needs it to run the tests.
set -eu
cd "$(dirname "$0")"
rm -rf hls film.mkv poster.jpg logo.png
mkdir hls
ffmpeg -v error -f lavfi -i testsrc=size=320x180:rate=24 -f lavfi -i sine=frequency=220:sample_rate=44100 -t 60 \
    -c:v libx264 -preset veryslow -crf 34 -profile:v baseline -pix_fmt yuv420p \
    -g 72 -keyint_min 72 -sc_threshold 0 -c:a aac -b:a 32k -ac 1 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact film.mkv
ffmpeg -v error -i film.mkv -c copy -f hls -hls_time 3 -hls_list_size 0 -hls_segment_type mpegts \
    -hls_segment_filename 'hls/%d.ts' -fflags +bitexact hls/list.m3u8
rm hls/list.m3u8
ffmpeg -v error -f lavfi -i testsrc=size=320x180 -frames:v 1 -q:v 8 -fflags +bitexact -flags:v +bitexact poster.jpg
ffmpeg -v error -f lavfi -i testsrc=size=64x36 -frames:v 1 -fflags +bitexact -flags:v +bitexact logo.png
