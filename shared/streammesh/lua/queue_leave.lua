#!lua flags=allow-oom
-- Ends a consumer's reading: what it was given and does not hold (the answer was lost on its way) is given
-- back, and it leaves the group when it holds nothing.
-- KEYS stream (STREAM)
-- ARGS group, me (the consumer), returned (owner of what is given back), still_held (ids)
-- Returns {how many were given back, 1 if it left the group}.
--#include _queue.lua
local given, kept, from = 0, {}, '-'
local PAGE = 1000  -- entries in one command
for _, id in ipairs(still_held) do kept[id] = true end
while true do
  local rows = redis.pcall('XPENDING', stream, group, from, '+', PAGE, me)
  if rows.err then return { 0, 0 } end
  for _, row in ipairs(rows) do
    if not kept[row[1]] then
      give_back(stream, group, returned, row[1], row[4], 0)
      given = given + 1
    end
  end
  if #rows < PAGE then break end
  from = '(' .. rows[#rows][1]
end
if given > 0 then ring(stream, group, me, returned) end
if #still_held > 0 then return { given, 0 } end
redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
return { given, 1 }
