/* Entries that a reading session read lately: as many as there are places, the newest wins its place. */
#include "session.h"

#include <errno.h>
#include <string.h>

#define RECENT_MAX 256

struct recent {
	uint64_t age; /* rises when all are forgotten */
	struct {
		uint64_t age; /* in which it was read; 0: never */
		struct vault_entry entry;
	} places[RECENT_MAX];
};

static struct recent *recent_of(const struct vault *vault)
{
	return (void *)vault->recent->data;
}

int vault_remember(struct vault *vault)
{
	int r = secret_new(vault->keys->arena, sizeof(struct recent), &vault->recent);

	if (r == 0)
		vault_forget(vault);
	return r;
}

void vault_forget(struct vault *vault)
{
	if (vault->recent)
		recent_of(vault)->age++;
	memset(vault->ends, 0, sizeof(vault->ends));
}

void recent_wipe(struct vault *vault)
{
	struct recent *recent = vault->recent ? recent_of(vault) : NULL;
	uint64_t age = recent ? recent->age : 0;

	if (!recent)
		return;
	explicit_bzero(recent, sizeof(*recent));
	recent->age = age + 1;
}

bool recent_get(const struct vault *vault, uint64_t id, struct vault_entry *ret)
{
	const struct recent *recent;
	unsigned at = (unsigned)(id % RECENT_MAX);

	if (!vault->recent)
		return false;
	recent = recent_of(vault);
	if (recent->places[at].age != recent->age || recent->places[at].entry.id != id)
		return false;
	*ret = recent->places[at].entry;
	return true;
}

void recent_note(struct vault *vault, const struct vault_entry *entry)
{
	unsigned at = (unsigned)(entry->id % RECENT_MAX);
	struct recent *recent;

	if (!vault->recent)
		return;
	recent = recent_of(vault);
	recent->places[at].age = recent->age;
	recent->places[at].entry = *entry;
}
