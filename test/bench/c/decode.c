/*
 * decode zlib|libdeflate|zstd IMAGE THREADS
 *
 * The floor of a compressed qcow2: decodes each compressed cluster once, from the page cache into one buffer a thread, and
 * writes nothing. Reads only images that qemu-img made: version 3, tables in place.
 */
#include <endian.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define MOST_THREADS 16
#define OFFSET_MASK 0x00fffffffffffe00ULL
#define COMPRESSED (1ULL << 62)

struct cluster {
  const uint8_t *bytes;
  size_t length;
};

static struct cluster *clusters;
static size_t count, cluster_bytes;
static int threads;
static char decoder;
static uint64_t decoded[MOST_THREADS];

static void fail(const char *what) {
  fprintf(stderr, "decode: %s\n", what);
  exit(1);
}

static uint64_t be64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return be64toh(value);
}

static uint32_t be32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return be32toh(value);
}

static void find_clusters(const uint8_t *image, size_t size) {
  unsigned bits = be32(image + 20), l1_size = be32(image + 36);
  uint64_t l1 = be64(image + 40);
  unsigned offset_bits = 62 - (bits - 8);
  cluster_bytes = 1ULL << bits;
  size_t entries = cluster_bytes / 8, room = size / 512;
  clusters = malloc(room * sizeof *clusters);
  for (unsigned index = 0; index < l1_size; index++) {
    uint64_t l2 = be64(image + l1 + 8 * index) & OFFSET_MASK;
    for (size_t slot = 0; l2 != 0 && slot < entries; slot++) {
      uint64_t entry = be64(image + l2 + 8 * slot);
      if ((entry & COMPRESSED) == 0) continue;
      uint64_t offset = entry & ((1ULL << offset_bits) - 1);
      uint64_t sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
      uint64_t end = (offset & ~511ULL) + sectors * 512;
      if (count == room || offset >= size) fail("a table is out of order");
      clusters[count++] = (struct cluster){image + offset, (end < size ? end : size) - offset};
    }
  }
}

static size_t inflate_one(z_stream *stream, struct cluster from, uint8_t *into) {
  inflateReset(stream);
  stream->next_in = (uint8_t *)from.bytes;
  stream->avail_in = from.length;
  stream->next_out = into;
  stream->avail_out = cluster_bytes;
  int result = inflate(stream, Z_FINISH);
  if (result != Z_STREAM_END && stream->avail_out != 0) fail("zlib");
  return cluster_bytes - stream->avail_out;
}

static size_t unzstd_one(ZSTD_DCtx *context, struct cluster from, uint8_t *into) {
  size_t length = ZSTD_findFrameCompressedSize(from.bytes, from.length);
  size_t bytes = ZSTD_isError(length) ? length : ZSTD_decompressDCtx(context, into, cluster_bytes, from.bytes, length);
  if (ZSTD_isError(bytes)) fail("zstd");
  return bytes;
}

static void *decode(void *argument) {
  size_t first = (size_t)argument;
  uint8_t *into = malloc(cluster_bytes);
  z_stream stream = {0};
  inflateInit2(&stream, -15);
  struct libdeflate_decompressor *deflate = libdeflate_alloc_decompressor();
  ZSTD_DCtx *zstd = ZSTD_createDCtx();
  for (size_t index = first; index < count; index += threads) {
    struct cluster from = clusters[index];
    size_t used, bytes = cluster_bytes;
    if (decoder == 'z') bytes = inflate_one(&stream, from, into);
    else if (decoder == 's') bytes = unzstd_one(zstd, from, into);
    else if (libdeflate_deflate_decompress_ex(deflate, from.bytes, from.length, into, cluster_bytes, &used, NULL) != 0)
      fail("libdeflate");
    decoded[first] += bytes;
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  decoder = strcmp(argv[1], "zstd") == 0 ? 's' : argv[1][0];
  threads = atoi(argv[3]);
  struct stat facts;
  int file = open(argv[2], O_RDONLY);
  if (file < 0 || fstat(file, &facts) != 0 || threads < 1 || threads > MOST_THREADS) fail(argv[2]);
  const uint8_t *image = mmap(NULL, facts.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
  if (image == MAP_FAILED) fail("mmap");
  find_clusters(image, facts.st_size);
  pthread_t ids[MOST_THREADS];
  for (int index = 0; index < threads; index++) pthread_create(&ids[index], NULL, decode, (void *)(size_t)index);
  uint64_t total = 0;
  for (int index = 0; index < threads; index++) {
    pthread_join(ids[index], NULL);
    total += decoded[index];
  }
  printf("%zu clusters, %llu bytes\n", count, (unsigned long long)total);
  return total == 0;
}
