#!lua flags=allow-oom
-- Counts entries of a stream between two positions, some at a time: it stops at a number of entries and at a number
-- of bytes, so that a long stream or large entries hold the server for a few milliseconds only.
-- KEYS[1] stream (STREAM)
-- ARGV[1] after which position  ARGV[2] up to which, '+' for all, '(' before it leaves it out
-- ARGV[3] most entries  ARGV[4] most bytes
-- Returns {number, position of the first, position of the last ('' for none), 1 if there may be more}.
local PAGE = 50
local after, number, bytes, first = ARGV[1], 0, 0, ''
local most, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
while number < most do
  local count = math.min(PAGE, most - number)
  local page = redis.call('XRANGE', KEYS[1], '(' .. after, ARGV[2], 'COUNT', count)
  if #page == 0 then return { number, first, number > 0 and after or '', 0 } end
  if first == '' then first = page[1][1] end
  for i = 1, #page do
    for _, value in ipairs(page[i][2]) do bytes = bytes + #value end
  end
  number, after = number + #page, page[#page][1]
  if #page < count then return { number, first, after, 0 } end
  if bytes > most_bytes then break end
end
return { number, first, after, 1 }
