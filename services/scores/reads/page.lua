-- The entries of one board and period that are strictly behind a place, also if its entry has moved.
--
-- ARGV  (after order.lua's) how many, the score, the member
-- Returns as top.lua does.

if not complete() then
  return false
end
local score, member = ARGV[4], ARGV[5]

-- Not compared as text: that follows the locale of the server.
local function before(one, other)
  local high, low = struct.unpack('>I4I4', one)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return high < other_high or (high == other_high and low < other_low)
end

local start = position(member)
if start then
  start = start + 1
else
  -- It has moved. Among those who have its score now, by halving.
  start = beyond(board, score, true)
  local stop = start + redis.call('ZCOUNT', board, score, score)
  while start < stop do
    local middle = math.floor((start + stop) / 2)
    local found = range(middle, middle)[1]
    local behind
    if descending then
      behind = before(found, member)
    else
      behind = before(member, found)
    end
    if behind then
      stop = middle
    else
      start = middle + 1
    end
  end
end
local found = range(start, start + ARGV[3] - 1)
local at = tonumber(redis.call('HGET', meta, 'at') or 0)
local first = found[2] and rank(start, found[2]) or 0
return numbers(version(), at, total(), start, first) .. entries(found)
