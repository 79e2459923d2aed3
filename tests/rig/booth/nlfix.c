/* LD_PRELOAD helper for old boothd packages on kernels >= 6.9: hand NLMSG_DONE
 * back as a datagram of its own, as older kernels did. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

static ssize_t (*real_recvmsg)(int, struct msghdr *, int);
static char held[256];
static size_t held_len;

__attribute__((constructor)) static void init(void)
{
	real_recvmsg = dlsym(RTLD_NEXT, "recvmsg");
	if (!strncmp(program_invocation_short_name, "booth", 5) || !strcmp(program_invocation_short_name, "geostore"))
		unsetenv("LD_PRELOAD"); /* children (sh, crm_ticket) run clean */
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	int dom = 0;
	socklen_t l = sizeof dom;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &dom, &l) || dom != AF_NETLINK)
		return real_recvmsg(fd, m, flags);
	char *buf = m->msg_iov[0].iov_base;
	if (held_len) {
		size_t n = held_len;
		memcpy(buf, held, n);
		held_len = 0;
		return n;
	}
	ssize_t n = real_recvmsg(fd, m, flags);
	for (ssize_t off = 0; n - off >= (ssize_t)sizeof(struct nlmsghdr);) {
		struct nlmsghdr *h = (void *)(buf + off);
		if (h->nlmsg_len < sizeof *h)
			break;
		if (h->nlmsg_type == NLMSG_DONE && off > 0 && n - off <= (ssize_t)sizeof held) {
			held_len = n - off;
			memcpy(held, h, held_len);
			return off;
		}
		off += NLMSG_ALIGN(h->nlmsg_len);
	}
	return n;
}
