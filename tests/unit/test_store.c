/*
 * The store: the table of backends, the conformance suite for each of its rows, and what only the SQLite
 * backend can get wrong.
 */
#include "test_store.h"
#include "store_conform.h"

#include <signal.h>
#include <string.h>

static const struct store_scratch scratches[] = {{"sqlite", place_make, place_remove}};

static void test_every_backend_has_a_name_of_its_own_and_every_member(void **state)
{
	(void)state;
	assert_non_null(store_backends[0]);
	for (size_t i = 0; store_backends[i]; i++) {
		const struct store_backend *backend = store_backends[i];
		const size_t n_members = sizeof(*backend) / sizeof(void *);

		for (size_t member = 0; member < n_members; member++) {
			static const void *const nothing = NULL;

			assert_memory_not_equal((const char *)backend + member * sizeof(nothing), &nothing,
						sizeof(nothing));
		}
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(backend->name, store_backends[j]->name);
	}
}

static int tables(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_backend_has_a_name_of_its_own_and_every_member),
	};

	return cmocka_run_group_tests_name("tables", tests, NULL, NULL);
}

/* A backend without a place to try it at has failed. */
static int conform(const struct store_backend *backend)
{
	for (size_t i = 0; i < sizeof(scratches) / sizeof(scratches[0]); i++)
		if (strcmp(scratches[i].backend, backend->name) == 0)
			return store_conform(backend, &scratches[i]);
	return 1;
}

int main(void)
{
	int n_failed = tables();

	(void)signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; store_backends[i]; i++)
		n_failed += conform(store_backends[i]);
	n_failed += sqlite_files() + sqlite_refusals() + sqlite_rows() + sqlite_full_disks();
	return n_failed > 0;
}
