"""Every codec and container that people upload and that the bundled ffmpeg can write."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """words: how ffmpeg encodes. tick_s: how roughly the container tells times. fps, size: what
    the codec can be given. sniffed: whether the file's first bytes name it a film."""

    codec: str
    container: str
    extension: str
    words: tuple[str, ...]
    fps: str = "25"
    size: tuple[int, int] = (320, 240)
    tick_s: float = 0.0011
    sniffed: bool = True

    @property
    def name(self) -> str:
        return f"{self.codec} in {self.container}"


def _f(codec: str, containers: str, *words: str, **options: object) -> list[Format]:
    """containers: `Name.extension`, several by blanks; `Name.extension:muxer` names the muxer."""
    made = []
    for told in containers.split():
        name, _, rest = told.partition(".")
        extension, _, muxer = rest.partition(":")
        forced = ("-f", muxer) if muxer else ()
        made.append(Format(codec, name, extension, (*words, *forced), **options))  # type: ignore[arg-type]
    return made


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30", "-pix_fmt", "yuv420p")
X265 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=none:bframes=2",
    "-g",
    "30",
)
VPX = ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "30")
AV1 = ("-c:v", "libsvtav1", "-preset", "9", "-crf", "20", "-g", "30", "-svtav1-params", "lp=1")
QCIF = {"size": (176, 144)}
PAL = {"size": (720, 576)}

FORMATS: tuple[Format, ...] = (
    *_f("H.264", "MP4.mp4 MOV.mov Matroska.mkv AVI.avi FLV.flv MPEG-TS.ts 3GP.3gp M4V.m4v", *X264),
    *_f("H.264", "F4V.f4v NUT.nut MXF.mxf ISMV.ismv M2TS.m2ts WTV.wtv raw.h264", *X264),
    *_f("HEVC", "MP4.mp4 MOV.mov Matroska.mkv MPEG-TS.ts FLV.flv raw.hevc", *X265),
    *_f("VVC", "MP4.mp4", "-c:v", "libvvenc", "-preset", "faster", "-pix_fmt", "yuv420p10le"),
    *_f("VP8", "WebM.webm Matroska.mkv IVF.ivf AVI.avi", "-c:v", "libvpx", *VPX),
    *_f("VP9", "WebM.webm Matroska.mkv MP4.mp4 IVF.ivf", "-c:v", "libvpx-vp9", *VPX),
    *_f("AV1", "MP4.mp4 WebM.webm Matroska.mkv IVF.ivf OBU.obu", *AV1),
    *_f("AV1", "AVIF.avif", *AV1, "-pix_fmt", "yuv420p", sniffed=False),
    *_f("MPEG-1", "MPEG-PS.mpg AVI.avi raw.m1v", "-c:v", "mpeg1video", "-q:v", "4"),
    *_f("MPEG-2", "MPEG-PS.mpg:vob VOB.vob MPEG-TS.ts MXF.mxf Matroska.mkv MP4.mp4 raw.m2v",
        "-c:v", "mpeg2video", "-q:v", "4", "-bf", "2"),
    *_f("MPEG-4", "AVI.avi MP4.mp4 MOV.mov Matroska.mkv 3GP.3gp raw.m4v",
        "-c:v", "mpeg4", "-q:v", "4", "-bf", "1"),
    *_f("Xvid", "AVI.avi Matroska.mkv", "-c:v", "libxvid", "-q:v", "4"),
    *_f("MS-MPEG-4 v2", "AVI.avi ASF.asf", "-c:v", "msmpeg4v2", "-q:v", "4"),
    *_f("MS-MPEG-4 v3", "AVI.avi WMV.wmv", "-c:v", "msmpeg4", "-q:v", "4"),
    *_f("WMV 7", "WMV.wmv AVI.avi", "-c:v", "wmv1", "-q:v", "4"),
    *_f("WMV 8", "WMV.wmv AVI.avi Matroska.mkv", "-c:v", "wmv2", "-q:v", "4"),
    *_f("H.261", "AVI.avi", "-c:v", "h261", "-q:v", "4", **QCIF),
    *_f("H.263", "3GP.3gp AVI.avi MOV.mov", "-c:v", "h263", "-q:v", "4", **QCIF),
    *_f("H.263+", "AVI.avi MOV.mov", "-c:v", "h263p", "-q:v", "4", **QCIF),
    *_f("Sorenson H.263", "FLV.flv AVI.avi", "-c:v", "flv", "-q:v", "4"),
    *_f("Flash Screen", "FLV.flv", "-c:v", "flashsv"),
    *_f("Flash Screen 2", "FLV.flv", "-c:v", "flashsv2"),
    *_f("Theora", "Ogg.ogv Matroska.mkv", "-c:v", "libtheora", "-q:v", "7"),
    *_f("RealVideo 1", "RealMedia.rm", "-c:v", "rv10", "-q:v", "4", **QCIF),
    *_f("RealVideo 2", "RealMedia.rm", "-c:v", "rv20", "-q:v", "4", **QCIF),
    *_f("Sorenson Video 1", "MOV.mov", "-c:v", "svq1", "-q:v", "4"),
    *_f("ProRes", "MOV.mov Matroska.mkv MXF.mxf", "-c:v", "prores_ks"),
    *_f("ProRes 4444", "MOV.mov", "-c:v", "prores_ks", "-profile:v", "4444",
        "-pix_fmt", "yuva444p10le"),
    *_f("DNxHR", "MOV.mov MXF.mxf Matroska.mkv", "-c:v", "dnxhd", "-profile:v", "dnxhr_sq",
        "-pix_fmt", "yuv422p"),
    *_f("CineForm", "MOV.mov AVI.avi", "-c:v", "cfhd", "-pix_fmt", "yuv422p10le"),
    *_f("DV", "DV.dv AVI.avi MOV.mov", "-c:v", "dvvideo", "-pix_fmt", "yuv420p", **PAL),
    *_f("Motion JPEG", "AVI.avi MOV.mov Matroska.mkv MP4.mp4", "-c:v", "mjpeg", "-q:v", "4",
        "-pix_fmt", "yuvj420p"),
    *_f("Motion JPEG", "raw.mjpeg", "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p",
        sniffed=False),
    *_f("JPEG 2000", "MOV.mov MXF.mxf", "-c:v", "jpeg2000", "-q:v", "4"),
    *_f("JPEG-LS", "AVI.avi", "-c:v", "jpegls", "-pix_fmt", "rgb24"),
    *_f("FFV1", "Matroska.mkv AVI.avi NUT.nut", "-c:v", "ffv1"),
    *_f("HuffYUV", "AVI.avi Matroska.mkv", "-c:v", "huffyuv"),
    *_f("FFvHuff", "AVI.avi", "-c:v", "ffvhuff"),
    *_f("Ut Video", "AVI.avi MOV.mov", "-c:v", "utvideo"),
    *_f("MagicYUV", "AVI.avi Matroska.mkv", "-c:v", "magicyuv"),
    *_f("raw frames", "AVI.avi NUT.nut Matroska.mkv", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"),
    *_f("raw frames", "MOV.mov", "-c:v", "rawvideo", "-pix_fmt", "uyvy422"),
    *_f("raw frames", "YUV4MPEG2.y4m", "-pix_fmt", "yuv420p"),
    *_f("v210", "MOV.mov AVI.avi", "-c:v", "v210", "-pix_fmt", "yuv422p10le"),
    *_f("PNG", "MOV.mov AVI.avi", "-c:v", "png"),
    *_f("QuickTime Animation", "MOV.mov", "-c:v", "qtrle"),
    *_f("QuickTime Graphics", "MOV.mov", "-c:v", "smc"),
    *_f("Apple Video", "MOV.mov", "-c:v", "rpza"),
    # Its encoder takes longer than all others together, unless it is told to search less.
    *_f("Cinepak", "AVI.avi MOV.mov", "-c:v", "cinepak", "-max_extra_cb_iterations", "0", **QCIF),
    *_f("Microsoft RLE", "AVI.avi", "-c:v", "msrle"),
    *_f("Microsoft Video 1", "AVI.avi", "-c:v", "msvideo1"),
    *_f("ZMBV", "AVI.avi", "-c:v", "zmbv", **QCIF),
    *_f("Hap", "MOV.mov", "-c:v", "hap"),
    *_f("Dirac (VC-2)", "Matroska.mkv MOV.mov", "-c:v", "vc2",
        "-pix_fmt", "yuv422p"),
    *_f("Snow", "AVI.avi NUT.nut", "-c:v", "snow", "-q:v", "2"),
    *_f("ASUS V1", "AVI.avi", "-c:v", "asv1", "-q:v", "4"),
    *_f("GIF", "GIF.gif", sniffed=False, tick_s=0.011),
    *_f("APNG", "APNG.apng", "-f", "apng", sniffed=False),
    *_f("WebP", "WebP.webp", "-c:v", "libwebp_anim", "-quality", "60", sniffed=False),
)  # fmt: skip
