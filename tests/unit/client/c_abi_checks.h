/* What c_abi_test.cpp has c_abi_checks.c do. */
#ifndef THALWEG_C_ABI_CHECKS_H
#define THALWEG_C_ABI_CHECKS_H
#ifdef __cplusplus
extern "C" {
#endif
/* Turns the driver of the test. */
typedef void (*turn_t)(void *driver);
const char *check_errors(const char *empty_directory);
const char *check_streams(const char *directory, turn_t turn, void *driver);
const char *check_resources(const char *directory, turn_t turn, void *driver);
const char *check_channels(void);
#ifdef __cplusplus
}
#endif
#endif
