/* What persistent_test.cpp has c_archive_checks.c do. */
#ifndef THALWEG_C_ARCHIVE_CHECKS_H
#define THALWEG_C_ARCHIVE_CHECKS_H
#ifdef __cplusplus
extern "C" {
#endif
/* Two archives listen there on aeron:ipc, streams 10 and 11; the first one records 100 messages of stream 4 as recording 0, which goes on. Answers NULL or a complaint. */
const char *check_archive(const char *directory);
#ifdef __cplusplus
}
#endif
#endif
