#!lua flags=allow-oom
-- Says whether a process may work in a mesh.
-- KEYS format (HASH)
-- ARGS mine (format of keys and scripts of the process)
-- Returns {'same' | 'older' (to be migrated first) | 'newer' (it may not), the mesh's version, oldest that may work there}.
--#include _format.lua
return { standing(), number_of('version'), number_of('oldest') }
