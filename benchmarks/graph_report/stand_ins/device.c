/* The part of CANN's runtime that torch_npu asks for when a tensor is placed on npu:0, with host
 * memory as the memory of the device. It computes nothing: what is not defined here is generated as
 * a function that reports an error, so that an operator can never seem to have run.
 *
 * Signatures follow acl/acl_rt.h; aclError is an int of which callers test for zero.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define OUT_OF_MEMORY 207001
#define ALIGNMENT 512
#define SUCCEEDS(name) int name(void) { return OK; }

static int32_t current_device;
static char stream, event, context; /* handles are only compared, never read */

static int host_alloc(void **memory, size_t size) {
  /* Kernels may read up to 32 bytes past the end; torch_npu allocates for that, and so is it here. */
  return posix_memalign(memory, ALIGNMENT, size + ALIGNMENT) ? OUT_OF_MEMORY : OK;
}

static int host_copy(void *to, size_t room, const void *from, size_t size) {
  if (size > room) return OUT_OF_MEMORY;
  memmove(to, from, size);
  return OK;
}

/* devices */
int aclrtGetDeviceCount(uint32_t *count) { *count = 1; return OK; }
int aclrtGetDevice(int32_t *device) { *device = current_device; return OK; }
int aclrtSetDevice(int32_t device) { current_device = device; return OK; }
const char *aclrtGetSocName(void) { return "Ascend910B3"; }
int aclrtGetDeviceInfo(uint32_t device, int what, int64_t *value) { *value = 20; return OK; }
int aclGetDeviceCapability(uint32_t device, int what, int64_t *value) { *value = 0; return OK; }
int aclrtGetMemInfo(int kind, size_t *free_bytes, size_t *total) {
  *free_bytes = *total = (size_t)64 << 30;
  return OK;
}
int aclrtGetPrimaryCtxState(int32_t device, uint32_t *flags, int32_t *active) {
  *flags = 0;
  *active = 1;
  return OK;
}
int aclrtGetCurrentContext(void **handle) { *handle = &context; return OK; }

/* memory */
int aclrtMalloc(void **memory, size_t size, int policy) { return host_alloc(memory, size); }
int aclrtMallocAlign32(void **memory, size_t size, int policy) { return host_alloc(memory, size); }
int aclrtMallocHost(void **memory, size_t size) { return host_alloc(memory, size); }
int aclrtFree(void *memory) { free(memory); return OK; }
int aclrtFreeHost(void *memory) { free(memory); return OK; }
int aclrtMemcpy(void *to, size_t room, const void *from, size_t size, int kind) {
  return host_copy(to, room, from, size);
}
int aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t size, int kind, void *on) {
  return host_copy(to, room, from, size);
}
int aclrtMemset(void *to, size_t room, int32_t value, size_t size) {
  memset(to, value, size < room ? size : room);
  return OK;
}
int aclrtMemsetAsync(void *to, size_t room, int32_t value, size_t size, void *on) {
  return aclrtMemset(to, room, value, size);
}

/* streams and events: all work is done when it is asked for */
int aclrtCreateStream(void **handle) { *handle = &stream; return OK; }
int aclrtCreateStreamWithConfig(void **handle, uint32_t priority, uint32_t flags) {
  *handle = &stream;
  return OK;
}
int aclrtCreateEventWithFlag(void **handle, uint32_t flags) { *handle = &event; return OK; }
int aclrtCreateEventExWithFlag(void **handle, uint32_t flags) { *handle = &event; return OK; }
int aclrtQueryEventStatus(void *handle, int *status) { *status = 1; return OK; }
int aclrtQueryEventWaitStatus(void *handle, int *status) { *status = 0; return OK; }
int aclrtEventElapsedTime(float *ms, void *from, void *to) { *ms = 0; return OK; }
int aclrtStreamGetId(void *handle, int32_t *id) { *id = 0; return OK; }
SUCCEEDS(aclrtStreamQuery)
SUCCEEDS(aclrtSetStreamFailureMode)
SUCCEEDS(aclrtDestroyStream)
SUCCEEDS(aclrtDestroyStreamForce)
SUCCEEDS(aclrtDestroyEvent)
SUCCEEDS(aclrtRecordEvent)
SUCCEEDS(aclrtResetEvent)
SUCCEEDS(aclrtStreamWaitEvent)
SUCCEEDS(aclrtSynchronizeDevice)
SUCCEEDS(aclrtSynchronizeEvent)
SUCCEEDS(aclrtSynchronizeStream)
SUCCEEDS(aclrtSynchronizeStreamWithTimeout)

/* options, errors, start and end */
int aclGetCompileopt(int option, char *value, size_t size) { if (size) *value = 0; return OK; }
size_t aclGetCompileoptSize(int option) { return 64; }
int aclrtGetSysParamOpt(int option, int64_t *value) { *value = 0; return OK; }
const char *aclGetRecentErrMsg(void) { return "the stand-in device computes nothing"; }
SUCCEEDS(aclInit)
SUCCEEDS(aclrtResetDevice)
SUCCEEDS(aclrtSetCurrentContext)
SUCCEEDS(aclrtSetDeviceSatMode)
SUCCEEDS(aclrtSetOpExecuteTimeOut)
SUCCEEDS(aclrtSetOpWaitTimeout)
SUCCEEDS(aclrtPeekAtLastError)
SUCCEEDS(aclrtGetLastError)
SUCCEEDS(aclSetCompileopt)
SUCCEEDS(aclrtSetSysParamOpt)
SUCCEEDS(aclrtCtxSetSysParamOpt)
SUCCEEDS(aclmdlInitDump)
SUCCEEDS(aclmdlSetDump)
SUCCEEDS(aclmdlFinalizeDump)

/* ge::OperatorFactory::IsExistOp(const char *): every operator of a recent CANN exists */
int _ZN2ge15OperatorFactory9IsExistOpEPKc(const char *name) { return 1; }
