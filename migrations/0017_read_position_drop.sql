-- Its content is in `conversation`.
DROP TABLE read_position
